//! Whether the documentation says what is at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::nodes::{Nodes, ROLES};

const DOCUMENTATION: &str = include_str!("../../../../../docs/operations.md");
const PATIENCE: Duration = Duration::from_secs(60);

/// A metric: its kind and its labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// Both ways: every metric of a role's table is shown there, and no other is.
pub(super) async fn agree_with_the_documentation(nodes: &Nodes) {
    for role in ROLES {
        let told = documented(role);
        let mut shown = Metrics::new();
        let waited = tokio::time::timeout(PATIENCE, async {
            while shown != told {
                shown = read(&nodes.metrics(role).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if waited.await.is_err() {
            let missing: Vec<_> = told
                .iter()
                .filter(|of| shown.get(of.0) != Some(of.1))
                .collect();
            let extra: Vec<_> = shown
                .iter()
                .filter(|of| told.get(of.0) != Some(of.1))
                .collect();
            panic!("{role}: documented {missing:#?}, shown {extra:#?}");
        }
    }
}

fn documented(role: &str) -> Metrics {
    let letter = role[..1].to_uppercase();
    let section = DOCUMENTATION.split("\n## Metrics\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut told = Metrics::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, roles, ..] = cells[..] else {
            panic!("{row}")
        };
        if roles.split(' ').any(|role| role == letter) {
            let labels = labels.split(", ").filter(|label| !label.is_empty());
            let labels = labels
                .map(|label| label.trim_matches('`').to_owned())
                .collect();
            told.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        }
    }
    assert!(told.len() > 10, "the table is not where it was");
    told
}

fn read(text: &str) -> Metrics {
    let mut shown = Metrics::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').unwrap();
            last = name.to_owned();
            shown.insert(last.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#')
            && let Some((_, labels)) = line.split_once('{')
        {
            let labels = labels.split('}').next().unwrap().split(',');
            let names = labels.map(|label| label.split('=').next().unwrap());
            let names = names.filter(|name| *name != "le").map(str::to_owned);
            shown.get_mut(&last).unwrap().1.extend(names);
        }
    }
    shown
}
