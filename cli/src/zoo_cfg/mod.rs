//! What of ZooKeeper's own configuration holds here? `zoo.cfg`, which is a file of Java properties, and properties given
//! as `-D KEY=VALUE`, with or without `zookeeper.` before them. They become settings of a node's own file, which comes
//! before `zoo.cfg` and behind `-D`.

mod keys;

use crate::args::ZooArgs;
use java_properties::{LineContent, PropertiesIter};
use keys::{Draft, Meaning};
use std::collections::BTreeSet;
use std::path::Path;
use zoolog_core::config::{self, ZkConfig};

/// ZooKeeper's tick where its file names none, milliseconds.
const TICK_MS: i64 = 3000;

/// A property, and where it stands, for people.
#[derive(Debug)]
struct Property {
    at: String,
    key: String,
    value: String,
}

/// What ZooKeeper's configuration sets.
#[derive(Debug, Default)]
pub struct Given {
    /// In a file: a node's own comes before it.
    pub file: toml::Table,
    /// On the command line: that comes before all files.
    pub line: toml::Table,
}

/// Reads what is given, and tells what of it doesn't hold.
///
/// # Errors
/// Names file, line, key, value and what is allowed.
pub fn read(zoo: &ZooArgs) -> Result<Given, String> {
    let (given, warnings) = read_quietly(zoo)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(given)
}

fn read_quietly(zoo: &ZooArgs) -> Result<(Given, Vec<String>), String> {
    let (mut file, mut warnings) = (toml::Table::new(), Vec::new());
    if let Some(path) = &zoo.zoo_cfg {
        let bytes = std::fs::read(path).map_err(|e| format!("can't read {}: {e}", path.display()))?;
        let mut draft = take(properties(&path.display().to_string(), &bytes)?)?;
        draft.table.entry("tick_ms").or_insert(toml::Value::Integer(TICK_MS));
        if let Some(id) =
            draft.data_dir.take().map(|dir| server_number(Path::new(&dir))).transpose()?.flatten()
        {
            draft.table.insert("id".into(), id.into());
        }
        warnings = draft.warnings.into_iter().map(|w| format!("{}: {w}", path.display())).collect();
        file = draft.table;
    }
    let args = zoo.property.iter().map(|text| {
        let at = format!("-D {text}");
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{at}: it must be KEY=VALUE"))?;
        Ok(Property { at, key: key.trim().into(), value: value.trim().into() })
    });
    let line = take(args.collect::<Result<_, String>>()?)?;
    warnings.extend(line.warnings.into_iter().map(|w| format!("-D: {w}")));
    Ok((Given { file, line: line.table }, warnings))
}

/// What a file of Java properties has, in order.
fn properties(name: &str, bytes: &[u8]) -> Result<Vec<Property>, String> {
    let mut all = Vec::new();
    for line in PropertiesIter::new(bytes) {
        let line = line.map_err(|e| match e.line_number() {
            Some(n) => format!("{name} line {n}: {e}"),
            None => format!("{name}: {e}"),
        })?;
        let at = format!("{name} line {}", line.line_number());
        if let LineContent::KVPair(key, value) = line.consume_content() {
            all.push(Property { at, key: key.trim().into(), value: value.trim().into() });
        }
    }
    Ok(all)
}

fn take(all: Vec<Property>) -> Result<Draft, String> {
    let mut draft = Draft::default();
    let mut told = BTreeSet::new();
    for Property { at, key, value } in all {
        let known = key.strip_prefix("zookeeper.").unwrap_or(&key);
        let wrong = |allowed: String| {
            let what = if at.starts_with("-D") { at.clone() } else { format!("{at}: {key}={value}") };
            format!("{what}: it must be {allowed}")
        };
        match keys::meaning(known) {
            Some((_, Meaning::Sets(take))) => {
                let before = draft.table.clone();
                take(&mut draft, &value).map_err(wrong)?;
                let changed = draft.table.iter().filter(|(k, v)| before.get(*k) != Some(v));
                check(changed.map(|(k, v)| (k.clone(), v.clone())).collect())
                    .map_err(|why| format!("{at}: {why}"))?;
            }
            Some((name, Meaning::Instead(instead))) => {
                if told.insert(instead) {
                    draft.warnings.push(format!("{name} has no meaning here: {instead}"));
                }
            }
            Some((name, Meaning::InsteadOfOn(instead))) => {
                if keys::on(&value).map_err(wrong)? && told.insert(instead) {
                    draft.warnings.push(format!("{name} has no meaning here: {instead}"));
                }
            }
            Some((_, Meaning::OnlyOff(why))) => {
                if keys::on(&value).map_err(wrong)? {
                    return Err(wrong(format!("false, or left away: {why}")));
                }
            }
            None => {
                let near = keys::nearest(known);
                draft.warnings.push(format!("unknown key {key} is ignored; did you mean {near}?"));
            }
        }
    }
    draft.settle();
    Ok(draft)
}

/// A setting by itself is checked as in a node's own file. Session timeouts are held against each other later, when all
/// are known.
fn check(table: toml::Table) -> Result<(), String> {
    let by_itself = |key: &str| !key.ends_with("session_timeout_ms") && key != "tick_ms";
    let table: toml::Table = table.into_iter().filter(|(key, _)| by_itself(key)).collect();
    let text = toml::to_string(&table).map_err(|e| e.to_string())?;
    config::parse::<ZkConfig>(&text).map(drop).map_err(|e| e.to_string())
}

/// What stands in `myid`, if there is one.
fn server_number(dir: &Path) -> Result<Option<i64>, String> {
    let path = dir.join("myid");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    match text.trim().parse::<u32>() {
        Ok(id) => Ok(Some(id.into())),
        Err(_) => {
            Err(format!("{}: {:?}: it must be a whole number, the server's own", path.display(), text.trim()))
        }
    }
}

/// Settings of a node: of the command line, its own file, `zoo.cfg`, and else the defaults.
///
/// # Errors
/// As [`read`], and of the node's own file.
pub fn node_config(own: Option<&Path>, zoo: &ZooArgs) -> Result<ZkConfig, String> {
    let given = read(zoo)?;
    let mut all = given.file;
    if let Some(path) = own {
        config::load::<ZkConfig>(path).map_err(|e| e.to_string())?; // its faults are its own
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("can't read {}: {e}", path.display()))?;
        all.extend(text.parse::<toml::Table>().map_err(|e| format!("{}: {e}", path.display()))?);
    }
    all.extend(given.line);
    let text = toml::to_string(&all).map_err(|e| e.to_string())?;
    config::parse(&text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
