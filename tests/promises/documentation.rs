//! The tables in the documentation say what the code does.

use std::collections::BTreeSet;

use tenure::metrics::METRICS;

const README: &str = include_str!("../../README.md");
const REFERENCE: &str = include_str!("../../src/metrics/reference.md");
const CONFIG: &str = include_str!("../../src/config/mod.rs");

#[test]
fn the_readme_lists_every_metric_with_its_labels_and_help() {
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let row =
            format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help);
        assert!(README.contains(&row), "README.md lacks this row:\n{row}");
    }
    let rows = README.lines().filter(|line| line.starts_with("| `tenure_")).count();
    assert_eq!(rows, METRICS.len(), "README.md lists a metric that is not in the table");
}

#[test]
fn the_reference_says_of_every_metric_what_to_do_when_it_moves() {
    for metric in METRICS {
        let row = format!("| `{}` | {} |", metric.name, metric.advice);
        assert!(REFERENCE.contains(&row), "src/metrics/reference.md lacks this row:\n{row}");
    }
    // Names in its other tables are prefixed by nothing else.
    let rows = REFERENCE.lines().filter(|line| line.starts_with("| `tenure_")).count();
    let others = REFERENCE.split("# In other words").nth(1).unwrap();
    let others = others.lines().filter(|line| line.starts_with("| `tenure_")).count();
    assert_eq!(rows - others, METRICS.len(), "it lists a metric that is not in the table");
}

#[test]
fn the_reference_says_what_each_value_of_a_label_is() {
    let section = REFERENCE.split("# What the labels say").nth(1).unwrap();
    let section = section.split("\n# ").next().unwrap();
    for (label, values) in METRICS.iter().flat_map(|metric| metric.labels) {
        let of_label =
            |line: &&str| line.split(" | ").next().unwrap().contains(&format!("`{label}`"));
        let rows: Vec<_> = section.lines().filter(of_label).collect();
        assert!(!rows.is_empty(), "{label} has no row");
        for value in values.iter().filter(|_| *label != "version") {
            let named = rows.iter().any(|row| row.contains(&format!("`{value}`")));
            assert!(named, "{label}={value} is not explained");
        }
    }
}

#[test]
fn the_names_in_the_comparison_exist() {
    let comparison = REFERENCE.split("# In other words").nth(1).unwrap();
    let words = comparison.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let named: BTreeSet<_> =
        words.filter(|word| word.starts_with("tenure_") && !word.contains("_bucket")).collect();
    assert!(named.len() >= 7, "{named:?}");
    for name in named {
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is no metric");
    }
}

#[test]
fn the_reference_of_the_configuration_has_every_key() {
    let all = serde_json::to_value(tenure::PoolConfig::default()).unwrap();
    for key in all.as_object().unwrap().keys() {
        assert!(CONFIG.contains(&format!("/// | `{key}` |")), "{key} has no row");
    }
}
