//! The tables in the documentation say what the code does.

use tenure::metrics::METRICS;

const README: &str = include_str!("../../README.md");
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
fn the_reference_of_the_configuration_has_every_key() {
    let all = serde_json::to_value(tenure::PoolConfig::default()).unwrap();
    for key in all.as_object().unwrap().keys() {
        assert!(CONFIG.contains(&format!("/// | `{key}` |")), "{key} has no row");
    }
}
