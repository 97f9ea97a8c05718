//! From text to a configuration: each key by itself, so that one fault does not hide the next.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::PoolConfig;
use super::error::{ConfigError, ConfigFault};
use super::ranges::{self, KEYS, allowed};

/// How alike an unknown key and one that was meant are, from 0 to 1.
const ALIKE: f64 = 0.7;

pub(super) fn config(text: &str) -> Result<PoolConfig, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, values: HashMap::new(), spans: HashMap::new(), faults: vec![] };
    for error in errors {
        let key = error.span().and_then(|span| key_of_line(text, span.start));
        let message = match key {
            Some(key) => format!("`{key}`: {}", error.message()),
            None => error.message().to_owned(),
        };
        reader.fault(key, error.span(), message);
    }
    for (key, value) in table.into_inner() {
        let name: &str = key.get_ref();
        match KEYS.iter().find(|(known, _)| *known == name) {
            Some((known, _)) => drop(reader.values.insert(known, value)),
            None => reader.fault(Some(name), Some(key.span()), unknown(name)),
        }
    }

    let mut config = PoolConfig::default();
    macro_rules! read {
        ($($key:ident),+) => { $( reader.read(stringify!($key), &mut config.$key); )+ };
    }
    read!(access, create, max_waiters, journal_mode, synchronous, foreign_keys, trusted_schema);
    read!(defensive, cell_size_check, cache_size_kib, mmap_size_mib, statement_cache);
    read!(database, name, readers, hold_sampling, metrics, after_raw, checkpoints, wal_limit_mib);
    read!(group_commit_max_size, read_mark);
    reader.read_time("checkout_timeout", &mut config.checkout_timeout);
    reader.read_time("busy_timeout", &mut config.busy_timeout);
    reader.read_time("idle_limit", &mut config.idle_limit);
    reader.read_time("max_lifetime", &mut config.max_lifetime);
    reader.read_time("overtaking", &mut config.overtaking);
    reader.read_time("statement_timeout", &mut config.statement_timeout);
    reader.read_time("group_commit_max_time", &mut config.group_commit_max_time);
    reader.read_time("slow_checkout_after", &mut config.slow_checkout_after);
    reader.read_time("long_held_after", &mut config.long_held_after);
    reader.read_time("snapshot_warn_after", &mut config.snapshot_warn_after);

    for fault in ranges::faults(&config) {
        let span = fault.key().and_then(|key| reader.spans.get(key));
        // What does not go with another key is the fault of the one that the text sets.
        let span = span.or_else(|| reader.spans.get("busy_timeout")).cloned();
        reader.fault(fault.key(), span, fault.message.clone());
    }
    reader.faults.sort_by_key(|fault| fault.place);
    ConfigError::unless_empty(reader.faults).map(|()| config)
}

/// The key that the line at this place sets, if it is one.
fn key_of_line(text: &str, at: usize) -> Option<&'static str> {
    let begin = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let (key, _) = text[begin..].lines().next()?.split_once('=')?;
    KEYS.iter().map(|(known, _)| *known).find(|known| *known == key.trim())
}

fn unknown(key: &str) -> String {
    let alike = |(known, _): &(&'static str, _)| {
        (strsim::normalized_damerau_levenshtein(key, known), *known)
    };
    let nearest = KEYS.iter().map(alike).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((alike, known)) if alike >= ALIKE => {
            format!("unknown key `{key}`; did you mean `{known}`?")
        }
        _ => {
            let known: Vec<_> = KEYS.iter().map(|(known, _)| *known).collect();
            format!("unknown key `{key}`; there are: {}", known.join(", "))
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    values: HashMap<&'static str, Spanned<DeValue<'t>>>,
    /// Where the values stood that have been read.
    spans: HashMap<&'static str, Range<usize>>,
    faults: Vec<ConfigFault>,
}

impl<'t> Reader<'t> {
    fn read<T: DeserializeOwned>(&mut self, key: &'static str, into: &mut T) {
        self.read_with(key, into, T::deserialize);
    }

    fn read_time(&mut self, key: &'static str, into: &mut Duration) {
        self.read_with(key, into, humantime_serde::deserialize);
    }

    fn read_with<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        read: impl FnOnce(ValueDeserializer<'t>) -> Result<T, toml::de::Error>,
    ) {
        let Some(value) = self.values.remove(key) else { return };
        let span = value.span();
        match read(ValueDeserializer::from(value)) {
            Ok(value) => {
                *into = value;
                self.spans.insert(key, span);
            }
            Err(error) => {
                let message = format!("`{key}`: {}; allowed: {}", error.message(), allowed(key));
                self.fault(Some(key), Some(span), message);
            }
        }
    }

    fn fault(&mut self, key: Option<&str>, span: Option<Range<usize>>, message: String) {
        let place = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            // Editors do not count a byte order mark.
            let line = before[line_start..].trim_start_matches('\u{feff}');
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        self.faults.push(ConfigFault { key: key.map(str::to_owned), place, message });
    }
}
