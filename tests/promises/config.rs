//! A configuration is read as it is meant, or refused with the place of the fault; nothing is guessed.

use std::time::Duration;

use proptest::prelude::*;
use tenure::{Access, ConfigError, JournalMode, OpenError, Pool, PoolConfig, Synchronous};

const SAMPLE: &str = include_str!("../../examples/pool.toml");

fn refused(text: &str) -> ConfigError {
    PoolConfig::from_toml_str(text).expect_err(text)
}

#[test]
fn the_sample_shows_the_defaults() {
    let sample = PoolConfig::from_toml_str(SAMPLE).unwrap();
    let mut expected = PoolConfig::default();
    expected.database = Some("board.db".into());
    expected.name = Some("board".to_owned());
    assert_eq!(sample, expected);
}

#[test]
fn the_sample_has_every_key() {
    let all = serde_json::to_value(PoolConfig::default()).unwrap();
    for key in all.as_object().unwrap().keys() {
        let set = SAMPLE
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(set, "{key} is not in examples/pool.toml");
    }
}

#[test]
fn every_key_is_read() {
    let config = PoolConfig::from_toml_str(
        r#"
        database = "a.db"
        name = "a"
        access = "read-only"
        create = false
        readers = 3
        checkout_timeout = "1m"
        busy_timeout = "250ms"
        max_waiters = 7
        idle_limit = "0s"
        journal_mode = "persist"
        synchronous = "normal"
        foreign_keys = false
        trusted_schema = true
        defensive = false
        cell_size_check = false
        cache_size_kib = 1
        mmap_size_mib = 2
        statement_cache = 0
        "#,
    )
    .unwrap();
    let mut expected = PoolConfig::default();
    expected.database = Some("a.db".into());
    expected.name = Some("a".to_owned());
    expected.access = Access::ReadOnly;
    expected.create = false;
    expected.readers = Some(3);
    expected.checkout_timeout = Duration::from_secs(60);
    expected.busy_timeout = Duration::from_millis(250);
    expected.max_waiters = 7;
    expected.idle_limit = Duration::ZERO;
    expected.journal_mode = JournalMode::Persist;
    expected.synchronous = Synchronous::Normal;
    expected.foreign_keys = false;
    expected.trusted_schema = true;
    expected.defensive = false;
    expected.cell_size_check = false;
    expected.cache_size_kib = 1;
    expected.mmap_size_mib = 2;
    expected.statement_cache = 0;
    assert_eq!(config, expected);
}

#[test]
fn faults_are_named_with_their_place() {
    let cases = [
        ("readers = 1\nreadres = 4", (2, 1), "unknown field `readres`"),
        ("readers = 4\nreaders = 5", (2, 1), "duplicate key"),
        ("checkout_timeout = 5", (1, 20), "invalid type: integer `5`"),
        ("checkout_timeout = \"5 parsecs\"", (1, 20), "parsecs"),
        ("journal_mode = \"memory\"", (1, 16), "unknown variant `memory`"),
        ("readers = -1", (1, 11), "invalid value"),
        ("create = yes", (1, 10), ""),
    ];
    for (text, place, says) in cases {
        let error = refused(text);
        assert_eq!(
            (error.line(), error.column()),
            (Some(place.0), Some(place.1)),
            "{text}: {error}"
        );
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let cases = [
        ("readers = 0", "1 to 1024"),
        ("readers = 1025", "1 to 1024"),
        ("name = \"\"", "not empty"),
        ("checkout_timeout = \"1s\"", "not below busy_timeout"),
        ("busy_timeout = \"2days\"\ncheckout_timeout = \"3days\"", "at most 1 day"),
        ("idle_limit = \"10ms\"", "at least 1s"),
        ("cache_size_kib = 0", "1 to 4194304"),
        ("statement_cache = 10001", "0 to 10000"),
        ("max_waiters = 1000001", "0 to 1000000"),
        ("mmap_size_mib = 1048577", "0 to 1048576"),
    ];
    for (text, range) in cases {
        let error = refused(text);
        assert!(error.to_string().contains(range), "{text}: {error}");
    }
}

#[test]
fn a_builder_is_checked_like_a_file() {
    let error = tenure::testing::temporary_with(Pool::builder().readers(0)).unwrap_err();
    assert!(matches!(error, OpenError::Config(_)), "{error}");
}

#[test]
fn a_file_is_named_in_its_errors_and_places_the_database_beside_itself() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pool.toml");
    let missing = PoolConfig::from_file(&file).unwrap_err();
    assert!(missing.to_string().contains("pool.toml"), "{missing}");

    std::fs::write(&file, "database = 'app.db'\nreadres = 2").unwrap();
    let error = Pool::from_config_file(&file).unwrap_err();
    assert!(error.to_string().contains("pool.toml line 2, column 1"), "{error}");
    assert!(!directory.path().join("app.db").exists(), "a pool was opened all the same");

    std::fs::write(&file, "database = 'app.db'").unwrap();
    let pool = Pool::from_config_file(&file).unwrap();
    assert_eq!(pool.name(), "app");
    assert!(directory.path().join("app.db").exists());

    std::fs::write(&file, "readers = 2").unwrap();
    let error = Pool::from_config_file(&file).unwrap_err();
    assert!(error.to_string().contains("`database` is missing"), "{error}");
}

proptest! {
    /// Bytes of the sample replaced, removed or repeated: an error or a valid configuration.
    #[test]
    fn no_text_makes_it_panic(edits in prop::collection::vec((any::<u16>(), any::<u8>(), 0..3_u8), 0..6)) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for (at, byte, how) in edits {
            let at = usize::from(at) % bytes.len();
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = PoolConfig::from_toml_str(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
