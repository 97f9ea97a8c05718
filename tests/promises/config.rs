//! A configuration is read as it is meant, or refused with the place of the fault; nothing is guessed.

use std::time::Duration;

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
        max_lifetime = "1h"
        overtaking = "0s"
        hold_sampling = 1
        metrics = false
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
    expected.max_lifetime = Duration::from_secs(3600);
    expected.overtaking = Duration::ZERO;
    expected.hold_sampling = 1;
    expected.metrics = false;
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
        ("readers = 1\nreadres = 4", (2, 1), "unknown key `readres`; did you mean `readers`?"),
        ("sync = 'full'", (1, 1), "unknown key `sync`; there are: database, name, access"),
        ("busy-timeout = '1s'", (1, 1), "did you mean `busy_timeout`?"),
        ("readers = 4\nreaders = 5", (2, 1), "`readers`: duplicate key"),
        ("checkout_timeout = 5", (1, 20), "invalid type: integer `5`"),
        ("checkout_timeout = \"5 parsecs\"", (1, 20), "allowed: a time such as \"5s\""),
        ("journal_mode = \"memory\"", (1, 16), "allowed: \"wal\", \"delete\""),
        ("readers = -1", (1, 11), "`readers`: invalid value: integer `-1`"),
        ("create = yes", (1, 10), "`create`: "),
        ("readers = 1\nname = app", (2, 8), "`name`: string values must be quoted"),
        ("\u{feff}readers = 0", (1, 11), "`readers` is 0"),
        ("[pool]\nreaders = 4", (1, 2), "unknown key `pool`"),
        ("readers = 0", (1, 11), "`readers` is 0; allowed: 1 to 1024"),
        ("readers = 1025", (1, 11), "1 to 1024"),
        ("name = \"\"", (1, 8), "1 to 64 characters"),
        ("checkout_timeout = \"1s\"", (1, 20), "below `busy_timeout`"),
        ("busy_timeout = \"2days\"", (1, 16), "at most \"1day\""),
        ("busy_timeout = \"6s\"", (1, 16), "below `busy_timeout`"),
        ("idle_limit = \"10ms\"", (1, 14), "at least \"1s\""),
        ("cache_size_kib = 0", (1, 18), "1 to 4194304"),
        ("statement_cache = 10001", (1, 19), "0 to 10000"),
        ("max_waiters = 1000001", (1, 15), "0 to 1000000"),
        ("mmap_size_mib = 1048577", (1, 17), "0 to 1048576"),
    ];
    for (text, place, says) in cases {
        let error = refused(text);
        let fault = &error.faults()[0];
        assert_eq!(
            (fault.line(), fault.column()),
            (Some(place.0), Some(place.1)),
            "{text}: {error}"
        );
        assert!(fault.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let error = refused(
        "readres = 4\nreaders = 0\nname = 7\njournal_mode = \"off\"\ncheckout_timeout = \"1s\"\n",
    );
    let lines: Vec<_> = error.faults().iter().map(|fault| fault.line().unwrap()).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5], "{error}");
    assert_eq!(error.to_string().lines().count(), 6, "a line for each:\n{error}");
    let keys: Vec<_> = error.faults().iter().map(|fault| fault.key().unwrap()).collect();
    assert_eq!(keys, ["readres", "readers", "name", "journal_mode", "checkout_timeout"]);
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
    assert!(error.to_string().contains("pool.toml is wrong: line 2, column 1"), "{error}");
    assert!(!directory.path().join("app.db").exists(), "a pool was opened all the same");

    std::fs::write(&file, "database = 'app.db'").unwrap();
    let pool = Pool::from_config_file(&file).unwrap();
    assert_eq!(pool.name(), "app");
    assert!(directory.path().join("app.db").exists());

    std::fs::write(&file, "readers = 2").unwrap();
    let error = Pool::from_config_file(&file).unwrap_err();
    assert!(error.to_string().contains("`database` is missing"), "{error}");
}

/// How many texts are tried. `TENURE_MUTATIONS` sets it for a long run.
fn mutations() -> u32 {
    std::env::var("TENURE_MUTATIONS").map_or(2_000, |number| number.parse().unwrap())
}

/// A valid configuration with position for every fault, or none.
fn judge(text: &str) -> Result<(), String> {
    match PoolConfig::from_toml_str(text) {
        // What was accepted can be said again, and is accepted again as the same.
        Ok(config) => {
            let again = format!("{:?}", config.clone());
            if again == format!("{config:?}") { Ok(()) } else { Err(again) }
        }
        Err(error) if error.faults().is_empty() => Err("an error without a fault".to_owned()),
        Err(error) => match error.faults().iter().find(|fault| fault.line().is_none()) {
            Some(fault) => Err(format!("no place: {fault}")),
            None => Ok(()),
        },
    }
}

#[test]
fn no_mutation_of_a_valid_file_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let lines: Vec<&str> = SAMPLE.lines().filter(|line| line.contains(" = ")).collect();
    let (mut toml, total) = (0, mutations());
    for round in 0..total {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..lines.len());
            let other = lines[random.usize(..lines.len())].clone();
            let value = |line: &str| line.split_once(" = ").unwrap_or(("", "1")).1.to_owned();
            let key = |line: &str| line.split_once(" = ").unwrap_or(("x", "")).0.to_owned();
            match random.u8(..6) {
                // Another key's value, a number, a line less: all of these are still TOML.
                0 => lines[at] = format!("{} = {}", key(&lines[at]), value(&other)),
                1 => lines[at] = format!("{} = {}", key(&lines[at]), random.i64(..)),
                2 => drop(lines.remove(at)),
                3 => {
                    lines[at] =
                        format!("{}{} = {}", key(&lines[at]), random.lowercase(), value(&other));
                }
                4 => lines[at] = other,
                _ => {
                    let mut line: Vec<char> = lines[at].chars().collect();
                    let place = random.usize(..=line.len());
                    line.insert(place, random.char(..));
                    lines[at] = line.into_iter().collect();
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        let text = lines.join("\n");
        toml += u32::from(toml::from_str::<toml::Table>(&text).is_ok());
        judge(&text).unwrap_or_else(|why| panic!("round {round}: {why} in\n{text}"));
    }
    assert!(toml * 5 >= total, "{toml} of {total} were TOML: not what this is meant to try");
}

#[test]
fn no_random_bytes_make_it_panic() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..mutations() {
        let bytes: Vec<u8> = (0..random.usize(..80)).map(|_| random.u8(..)).collect();
        let text = String::from_utf8_lossy(&bytes);
        judge(&text).unwrap_or_else(|why| panic!("{why} in {text:?}"));
    }
}
