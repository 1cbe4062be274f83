//! Settings: names, defaults, who may see them (`access-control.md` §12). The table is
//! the model's; here are facts about this process and what is stored. Values in effect are a snapshot that every request takes along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use remuda_model::Setting;
use remuda_model::settings::{self, PUBLIC_NAMES, default};
use remuda_orchestrator::settings::Settings;
use remuda_schema::Row;
use remuda_store::{Query, Read, Scope};

use crate::failure::Failure;

/// A setting and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Value in effect.
    pub active: Option<String>,
    /// The stored value, if one is stored.
    pub stored: Option<String>,
    /// Number of the stored row.
    pub row_id: Option<i64>,
    pub source: Option<&'static str>,
}

/// The settings of this server.
#[derive(Debug)]
pub struct Book {
    current: RwLock<Arc<Settings>>,
    /// Facts about this process that read like settings and cannot be set.
    fixed: BTreeMap<&'static str, String>,
}

impl Book {
    pub fn new(version: &str, dev: bool) -> Book {
        let fixed = BTreeMap::from([
            ("api.auth.provider.configured", "none".to_owned()),
            ("api.security.enabled", (!dev).to_string()),
            ("cattle.version", version.to_owned()),
            ("rancher.server.image", format!("remuda/server:{version}")),
        ]);
        Book { current: RwLock::new(Arc::new(Settings::default())), fixed }
    }

    /// The values in effect now.
    pub fn current(&self) -> Arc<Settings> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts freshly read values into effect.
    pub fn replace(&self, settings: Settings) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Whether the name belongs to a fact about this process.
    pub fn is_fixed(&self, name: &str) -> bool {
        self.fixed.contains_key(name)
    }

    /// Value in effect of one setting.
    pub fn value(&self, settings: &Settings, name: &str) -> Option<String> {
        self.fixed.get(name).cloned().or_else(|| settings.get(name).map(str::to_owned)).or_else(|| default(name))
    }

    /// Defaults, facts and rows merged, by name. Names that look like environment variables are nobody's business.
    pub fn all(&self, rows: &[Row<Setting>]) -> Vec<Known> {
        let stored: BTreeMap<&str, &Row<Setting>> =
            rows.iter().filter_map(|row| Some((row.meta.name.as_deref()?, row))).collect();
        let names: BTreeSet<&str> = settings::SETTINGS
            .iter()
            .map(|setting| setting.name)
            .chain([PUBLIC_NAMES])
            .chain(self.fixed.keys().copied())
            .chain(stored.keys().copied())
            .filter(|name| is_listed(name))
            .collect();
        names.into_iter().map(|name| self.known(name, stored.get(name).copied())).collect()
    }

    /// One setting by name, with its row if it has one.
    pub fn known(&self, name: &str, row: Option<&Row<Setting>>) -> Known {
        let fixed = self.fixed.get(name).cloned();
        let default = fixed.clone().or_else(|| default(name));
        let stored = row.and_then(|row| row.data.value.clone());
        let source = match (&fixed, &stored, &default) {
            (Some(_), ..) => Some("Server Flags"),
            (None, Some(_), _) => Some("Database"),
            (None, None, Some(_)) => Some("Code Packaged Defaults"),
            _ => None,
        };
        let is_secret = is_secret(name);
        let shown = |value: Option<String>| value.filter(|_| !is_secret);
        Known {
            name: name.to_owned(),
            active: shown(fixed.or_else(|| stored.clone()).or(default)),
            stored: shown(stored),
            row_id: row.map(|row| row.meta.id),
            source,
        }
    }

    /// Names everybody may see.
    pub fn public(&self, settings: &Settings) -> BTreeSet<String> {
        match settings.get(PUBLIC_NAMES) {
            Some(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            None => settings::public_names().map(str::to_owned).collect(),
        }
    }
}

/// Whether a name is a setting's: those of environment variables are not.
pub fn is_listed(name: &str) -> bool {
    name.chars().next().is_some_and(|first| first.is_ascii_lowercase())
}

/// Values nobody gets back.
fn is_secret(name: &str) -> bool {
    name.contains("secret") || name.contains("password")
}

/// Every stored row.
pub fn rows(read: &Read<'_>) -> Result<Vec<Row<Setting>>, Failure> {
    Ok(read.list(&Scope::Everything, &Query::new())?)
}

/// The stored values as the snapshot that goes with requests.
pub fn snapshot(rows: &[Row<Setting>]) -> Settings {
    let stored = rows.iter().filter_map(|row| Some((row.meta.name.clone()?, row.data.value.clone()?)));
    Settings::new(stored.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, name: &str, value: &str) -> Row<Setting> {
        let mut row = Row::new(None, "active", Setting { value: Some(value.to_owned()), ..Setting::default() });
        row.meta.id = id;
        row.meta.name = Some(name.to_owned());
        row
    }

    #[test]
    fn defaults_facts_and_rows_are_merged() {
        let book = Book::new("1.2.3", true);
        let rows =
            [row(1, "api.host", "h"), row(2, "own.setting", "x"), row(3, "CATTLE_X", "y"), row(4, "a.secret", "s")];
        let all = book.all(&rows);
        assert!(all.is_sorted_by(|a, b| a.name < b.name));
        let find = |name: &str| all.iter().find(|known| known.name == name).cloned();
        assert_eq!(find("CATTLE_X"), None);
        let known = |name: &str, active: Option<&str>, stored: Option<&str>, row_id, source| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Some(Known { name: name.into(), active: text(active), stored: text(stored), row_id, source })
        };
        assert_eq!(find("api.host"), known("api.host", Some("h"), Some("h"), Some(1), Some("Database")));
        assert_eq!(find("a.secret"), known("a.secret", None, None, Some(4), Some("Database")));
        assert_eq!(find("vm.enabled"), known("vm.enabled", Some("false"), None, None, Some("Code Packaged Defaults")));
        assert_eq!(
            find("api.security.enabled"),
            known("api.security.enabled", Some("false"), None, None, Some("Server Flags"))
        );
        assert!(book.public(&snapshot(&rows)).len() > 9);
    }
}
