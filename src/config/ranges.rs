//! What each value may be, beyond its type, and how values go together.

use std::fmt;
use std::time::Duration;

use super::PoolConfig;
use super::error::ConfigFault;

const DAY: Duration = Duration::from_secs(86_400);

/// The keys, and what may stand there: for messages.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("database", "a path"),
    ("name", "a name of 1 to 64 characters"),
    ("access", "\"read-write\" or \"read-only\""),
    ("create", "true or false"),
    ("readers", "1 to 1024"),
    ("checkout_timeout", "a time such as \"5s\" or \"250ms\", at most \"1day\""),
    ("busy_timeout", "a time such as \"3s\" or \"250ms\", at most \"1day\""),
    ("max_waiters", "0 to 1000000"),
    ("idle_limit", "a time such as \"10min\", at least \"1s\"; \"0s\" = never"),
    ("max_lifetime", "a time such as \"1h\", at least \"1s\"; \"0s\" = never"),
    ("overtaking", "a time such as \"70us\", at most \"1s\"; \"0s\" = strict order"),
    ("hold_sampling", "0 to 1000000"),
    ("metrics", "true or false"),
    ("journal_mode", "\"wal\", \"delete\", \"truncate\" or \"persist\""),
    ("synchronous", "\"off\", \"normal\", \"full\" or \"extra\""),
    ("checkpoints", "\"background\" or \"inline\""),
    ("wal_limit_mib", "4 to 1048576"),
    ("read_mark", "true or false"),
    ("foreign_keys", "true or false"),
    ("trusted_schema", "true or false"),
    ("defensive", "true or false"),
    ("cell_size_check", "true or false"),
    ("cache_size_kib", "1 to 4194304"),
    ("mmap_size_mib", "0 to 1048576"),
    ("statement_cache", "0 to 10000"),
    ("statement_timeout", "a time such as \"2s\", \"1ms\" to \"1day\"; \"0s\" = none"),
    ("after_raw", "\"inspect\" or \"discard\""),
    ("group_commit_max_size", "1 to 100000"),
    ("group_commit_max_time", "a time such as \"5ms\", at most \"1day\""),
    ("slow_checkout_after", "a time such as \"1s\", at most \"1day\"; \"0s\" = never"),
    ("long_held_after", "a time such as \"30s\", at most \"1day\"; \"0s\" = never"),
    ("snapshot_warn_after", "a time such as \"10s\", at most \"1day\"; \"0s\" = never"),
];

/// What may stand at a key.
pub(super) fn allowed(key: &str) -> &'static str {
    KEYS.iter().find(|(name, _)| *name == key).map_or("", |(_, allowed)| allowed)
}

/// Every value that is out of its range or does not go with another.
pub(super) fn faults(config: &PoolConfig) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let mut check = |key: &str, found: &dyn fmt::Display, right: bool| {
        if !right {
            let message = format!("`{key}` is {found}; allowed: {}", allowed(key));
            faults.push(ConfigFault::of_key(key, message));
        }
    };
    if let Some(name) = &config.name {
        let length = name.chars().count();
        check("name", &format_args!("{length} characters long"), (1..=64).contains(&length));
    }
    let readers = config.reader_limit();
    check("readers", &readers, (1..=1024).contains(&readers));
    let (checkout, busy, idle) = (config.checkout_timeout, config.busy_timeout, config.idle_limit);
    check("checkout_timeout", &format_args!("{checkout:?}"), checkout <= DAY);
    check("busy_timeout", &format_args!("{busy:?}"), busy <= DAY);
    check("max_waiters", &config.max_waiters, config.max_waiters <= 1_000_000);
    let idle_is_right = idle.is_zero() || idle >= Duration::from_secs(1);
    check("idle_limit", &format_args!("{idle:?}"), idle_is_right);
    let lifetime = config.max_lifetime;
    let lifetime_is_right = lifetime.is_zero() || lifetime >= Duration::from_secs(1);
    check("max_lifetime", &format_args!("{lifetime:?}"), lifetime_is_right);
    let overtaking = config.overtaking;
    check("overtaking", &format_args!("{overtaking:?}"), overtaking <= Duration::from_secs(1));
    check("hold_sampling", &config.hold_sampling, config.hold_sampling <= 1_000_000);
    let (cache, mmap) = (config.cache_size_kib, config.mmap_size_mib);
    check("cache_size_kib", &cache, (1..=4_194_304).contains(&cache));
    check("mmap_size_mib", &mmap, mmap <= 1_048_576);
    check("statement_cache", &config.statement_cache, config.statement_cache <= 10_000);
    let statement = config.statement_timeout;
    let statement_is_right =
        statement.is_zero() || (Duration::from_millis(1)..=DAY).contains(&statement);
    check("statement_timeout", &format_args!("{statement:?}"), statement_is_right);
    let (size, time) = (config.group_commit_max_size, config.group_commit_max_time);
    check("group_commit_max_size", &size, (1..=100_000).contains(&size));
    check("group_commit_max_time", &format_args!("{time:?}"), time <= DAY);
    let (slow, long) = (config.slow_checkout_after, config.long_held_after);
    check("slow_checkout_after", &format_args!("{slow:?}"), slow <= DAY);
    check("long_held_after", &format_args!("{long:?}"), long <= DAY);
    let snapshot = config.snapshot_warn_after;
    check("snapshot_warn_after", &format_args!("{snapshot:?}"), snapshot <= DAY);
    check("wal_limit_mib", &config.wal_limit_mib, (4..=1_048_576).contains(&config.wal_limit_mib));

    if checkout < busy && busy <= DAY {
        let message = format!(
            "`checkout_timeout` is {checkout:?}, below `busy_timeout`, which is {busy:?}: a checkout \
             would give up before the holder it waits for does; raise one or lower the other"
        );
        faults.push(ConfigFault::of_key("checkout_timeout", message));
    }
    faults
}
