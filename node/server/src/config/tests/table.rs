//! The table of `docs/configuration.md` and the code say the same.

use super::*;
use settings::SETTINGS;

const PAGE: &str = include_str!("../../../../../docs/configuration.md");

/// A setting's row as it must begin; what follows is for people.
fn row(setting: &settings::Setting) -> String {
    let own = setting.variable();
    let names = [own.as_str()]
        .into_iter()
        .chain(setting.openfga.iter().copied());
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let default = match (setting.path, setting.show(&Config::default())) {
        ("name", _) => "the host's name".to_owned(),
        (_, none) if none.is_empty() => "–".to_owned(),
        (_, default) => format!("`{default}`"),
    };
    format!(
        "| `{}` | {} | {default} | {} | ",
        setting.path,
        names.join(", "),
        setting.range()
    )
}

#[test]
fn the_documented_settings_are_those_that_there_are() {
    let expected: Vec<_> = SETTINGS.iter().map(row).collect();
    let documented: Vec<_> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for (row, expected) in documented.iter().zip(&expected) {
        let meaning = row.strip_prefix(expected.as_str());
        assert!(
            meaning.is_some_and(|meaning| meaning.len() > 5),
            "docs/configuration.md must say\n{expected}...\nwhere it says\n{row}"
        );
    }
    assert_eq!(documented.len(), expected.len(), "{}", expected.join("\n"));
}

#[test]
fn what_of_openfgas_variables_has_no_effect_is_documented_with_the_reason() {
    let (_, listed) = PAGE.split_once("They are, by the reason:\n\n").unwrap();
    let (listed, _) = listed.split_once("\n\n").unwrap();
    let documented: Vec<_> = listed.split_whitespace().collect();
    let expected = openfga::NO_EFFECT.iter().map(|(why, variables)| {
        let names: Vec<_> = variables
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        format!("- {why}: {}", names.join(", "))
    });
    let expected = expected.collect::<Vec<_>>().join(" ");
    assert_eq!(documented.join(" "), expected);
}

#[test]
fn every_setting_is_found_in_the_file_under_its_path() {
    for setting in SETTINGS {
        let (path, value) = match setting.path {
            "listen.metrics" => (setting.path, "127.0.0.1:1".to_owned()),
            path => (path, setting.show(&Config::default())),
        };
        if value.is_empty() {
            continue;
        }
        let is_list = matches!(
            path,
            "upstream"
                | "experimentals"
                | "authn.oidc.clientIdClaims"
                | "live.oidc.clientIdClaims"
                | "live.allowedOrigins"
        ) || path.starts_with("http.cors");
        let value = if is_list {
            let parts: Vec<_> = value.split(',').map(|part| format!("'{part}'")).collect();
            format!("[{}]", parts.join(", "))
        } else if value.bytes().all(|b| b.is_ascii_digit()) || value.parse::<bool>().is_ok() {
            value
        } else {
            format!("'{value}'")
        };
        let parts: Vec<_> = path.split('.').collect();
        let (last, outer) = parts.split_last().unwrap();
        let inner = format!("{last}: {value}");
        let text = outer
            .iter()
            .rev()
            .fold(inner, |inner, part| format!("{part}: {{{inner}}}"));
        assert!(load(&text).is_ok(), "{text}: {:?}", load(&text));
    }
}
