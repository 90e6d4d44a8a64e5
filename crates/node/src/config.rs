//! A node's settings: from flags, then `GRAMME_*`, then `gramme.toml`, then defaults.
//!
//! Every mistake is reported, all at once, each with the setting's name and where it stands.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gramme_admission::Limits;
use gramme_gossip::{ADDRESS, ADDRESSES};
use gramme_object::limits;
use gramme_storage::EngineKind;
use toml::de::{DeTable, DeValue};

use crate::logging::LogFormat;

/// The settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) http: SocketAddr,
    pub(crate) quic: SocketAddr,
    /// Where the others reach it, if that is not where it listens.
    pub(crate) advertise: Option<Vec<String>>,
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ring: PathBuf,
    pub(crate) engine: EngineKind,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) max_value_bytes: usize,
    pub(crate) max_requests: usize,
    pub(crate) background: Limits,
    pub(crate) scrub_hours: usize,
    pub(crate) insecure_http: bool,
}

/// A setting: its name in the file and, in capitals behind `GRAMME_`, in the environment; and its default.
struct Setting {
    name: &'static str,
    default: Option<&'static str>,
}

const fn setting(name: &'static str, default: Option<&'static str>) -> Setting {
    Setting { name, default }
}

const SETTINGS: [Setting; 18] = [
    setting("name", Some("node")),
    setting("data_dir", Some("data")),
    setting("http", None),
    setting("quic", None),
    setting("advertise", Some("")),
    setting("ca", Some("ca.pem")),
    setting("cert", Some("node.pem")),
    setting("key", Some("node.key")),
    setting("ring", Some("cluster.ring")),
    setting("engine", Some("sled")),
    setting("log", Some("info")),
    setting("log_format", Some("human")),
    setting("max_value_bytes", Some("1048576")),
    setting("max_requests", Some("4096")),
    setting("background_mib", Some("64")),
    setting("foreground_p99_ms", Some("20")),
    setting("scrub_hours", Some("24")),
    setting("insecure_http", Some("false")),
];

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake{}:\n{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigErrors(Vec<String>);

/// A setting's value and where it stands.
struct Given {
    value: String,
    place: String,
}

struct Reader {
    given: BTreeMap<&'static str, Given>,
    base: PathBuf,
    errors: Vec<String>,
}

impl Config {
    /// Reads the settings of the node whose file is `path`; `overrides` are flags, as name and value.
    pub(crate) fn load(
        path: &Path,
        overrides: &[(String, String)],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut reader = Reader { given: BTreeMap::new(), base, errors: Vec::new() };
        reader.read_file(path);
        for Setting { name, .. } in &SETTINGS {
            let variable = format!("GRAMME_{}", name.to_uppercase());
            if let Some(value) = environment(&variable) {
                reader.given.insert(name, Given { value, place: variable });
            }
        }
        for (name, value) in overrides {
            match SETTINGS.iter().find(|setting| setting.name == name) {
                Some(setting) => {
                    let given = Given { value: value.clone(), place: "command line".to_owned() };
                    reader.given.insert(setting.name, given);
                }
                None => reader.errors.push(format!("command line: {name}: there is no such setting")),
            }
        }
        let config = reader.build();
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }
}

impl Reader {
    fn read_file(&mut self, path: &Path) {
        match fs::read_to_string(path) {
            Ok(text) => self.read_text(path, &text),
            Err(error) => self.errors.push(format!("{}: {error}", path.display())),
        }
    }

    fn read_text(&mut self, path: &Path, text: &str) {
        let place = |at: usize| {
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            format!("{}:{line}", path.display())
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            self.errors.push(format!("{}: {}", place(at), error.message()));
        }
        for (key, value) in table.get_ref() {
            let (name, place) = (key.get_ref(), place(key.span().start));
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                self.errors.push(format!("{place}: {name}: there is no such setting"));
                continue;
            };
            match scalar(value.get_ref()) {
                Some(value) => {
                    self.given.insert(setting.name, Given { value, place });
                }
                None => self.errors.push(format!("{place}: {name}: a text, number or true/false is wanted")),
            }
        }
    }

    fn build(&mut self) -> Option<Config> {
        let name = self.parse("name", text);
        let data_dir = self.path("data_dir");
        let http = self.parse("http", address);
        let quic = self.parse("quic", address);
        let advertise = self.parse("advertise", advertised);
        let (ca, cert, key, ring) = (self.path("ca"), self.path("cert"), self.path("key"), self.path("ring"));
        let engine = self.parse("engine", EngineKind::from_str);
        let log = self.parse("log", text);
        let log_format = self.parse("log_format", log_format);
        let max_value_bytes = self.parse("max_value_bytes", |value| number(value, 1, limits::MAX_VALUE));
        let max_requests = self.parse("max_requests", |value| number(value, 1, 1_000_000));
        let background_mib = self.parse("background_mib", |value| number(value, 1, 1 << 14));
        let foreground_p99_ms = self.parse("foreground_p99_ms", |value| number(value, 1, 10_000));
        let scrub_hours = self.parse("scrub_hours", |value| number(value, 1, 24 * 366));
        let insecure_http = self.parse("insecure_http", |value| {
            value.parse().map_err(|_| format!("true or false, not '{value}'"))
        });
        if let (Some(http), Some(false)) = (http, insecure_http)
            && !http.ip().is_loopback()
        {
            self.error("http", &format!("{http} can be reached from other machines, and HTTP has no encryption or passwords yet; listen on 127.0.0.1, or say --insecure-http"));
        }
        Some(Config {
            name: name?,
            data_dir: data_dir?,
            http: http?,
            quic: quic?,
            advertise: advertise?,
            ca: ca?,
            cert: cert?,
            key: key?,
            ring: ring?,
            engine: engine?,
            log: log?,
            log_format: log_format?,
            max_value_bytes: max_value_bytes?,
            max_requests: max_requests?,
            background: Limits {
                most: (background_mib? as u64) << 20,
                target: foreground_p99_ms? as u64 * 1_000,
                ..Limits::USUAL
            },
            scrub_hours: scrub_hours?,
            insecure_http: insecure_http?,
        })
    }

    fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let default =
            SETTINGS.iter().find(|setting| setting.name == name).and_then(|setting| setting.default);
        let value = self.given.get(name).map(|given| given.value.clone()).or(default.map(str::to_owned));
        let Some(value) = value else {
            self.errors.push(format!("{name}: it must be set, and has no default"));
            return None;
        };
        match parse(&value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(name, &why);
                None
            }
        }
    }

    /// A path is relative to the directory of the file.
    fn path(&mut self, name: &str) -> Option<PathBuf> {
        let path = self.parse(name, text)?;
        Some(self.base.join(path))
    }

    fn error(&mut self, name: &str, why: &str) {
        let place = self.given.get(name).map_or("default", |given| given.place.as_str());
        self.errors.push(format!("{place}: {name}: {why}"));
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| format!("an address like 127.0.0.1:8098 is wanted, not '{value}'"))
}

/// Addresses that other nodes dial: host names or literal ones, each with its port. Nothing stands for none.
fn advertised(value: &str) -> Result<Option<Vec<String>>, String> {
    let addresses: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
    check_addresses(&addresses)?;
    Ok((!addresses.is_empty()).then_some(addresses))
}

/// Whether these can be dialled, by their looks.
pub(crate) fn check_addresses(addresses: &[String]) -> Result<(), String> {
    let is_dialled = |address: &String| {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        address.len() <= ADDRESS && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if addresses.len() > ADDRESSES {
        return Err(format!("at most {ADDRESSES} addresses"));
    }
    match addresses.iter().find(|address| !is_dialled(address)) {
        Some(wrong) => Err(format!("addresses like n1.example.org:7098 are wanted, not '{wrong}'")),
        None => Ok(()),
    }
}

fn number(value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| format!("a number from {least} to {most} is wanted, not '{value}'"))
}

fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("human or json, not '{value}'")),
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(text: &str) {
    let mut reader = Reader { given: BTreeMap::new(), base: PathBuf::new(), errors: Vec::new() };
    reader.read_text(Path::new("gramme.toml"), text);
    let _ = reader.build();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gramme.toml");
        fs::write(&path, text).expect("a file");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let overrides: Vec<_> = overrides.iter().map(owned).collect();
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let shown = directory.path().display().to_string() + "/";
        Config::load(&path, &overrides, variable).map_err(|error| error.to_string().replace(&shown, ""))
    }

    const MINIMAL: &str = "http = \"127.0.0.1:1\"\nquic = \"127.0.0.1:2\"\n";

    #[test]
    fn the_nearer_source_wins() {
        let file = format!("{MINIMAL}max_requests = 10\n");
        let from_file = load(&file, &[], &[]).expect("valid");
        assert_eq!((from_file.max_requests, from_file.log.as_str()), (10, "info"));
        let environment = [("GRAMME_MAX_REQUESTS", "20")];
        assert_eq!(load(&file, &[], &environment).expect("valid").max_requests, 20);
        assert_eq!(load(&file, &[("max_requests", "30")], &environment).expect("valid").max_requests, 30);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let file = "http = \"nowhere\"\nengine = \"rocks\"\n\ncolour = 3\nlog = [1]\n";
        let error =
            load(file, &[("shape", "round")], &[("GRAMME_MAX_REQUESTS", "none")]).expect_err("mistakes");
        assert_eq!(
            error,
            "the configuration has 7 mistakes:\n  \
             gramme.toml:4: colour: there is no such setting\n  \
             gramme.toml:5: log: a text, number or true/false is wanted\n  \
             command line: shape: there is no such setting\n  \
             gramme.toml:1: http: an address like 127.0.0.1:8098 is wanted, not 'nowhere'\n  \
             quic: it must be set, and has no default\n  \
             gramme.toml:2: engine: no engine is called 'rocks'; there are sled, redb and memory\n  \
             GRAMME_MAX_REQUESTS: max_requests: a number from 1 to 1000000 is wanted, not 'none'"
        );
    }

    #[test]
    fn http_stays_on_this_machine_unless_told() {
        let file = "http = \"0.0.0.0:1\"\nquic = \"127.0.0.1:2\"\n";
        assert!(load(file, &[], &[]).expect_err("refused").contains("gramme.toml:1: http: 0.0.0.0:1"));
        assert!(load(file, &[("insecure_http", "true")], &[]).is_ok());
    }

    #[test]
    fn advertised_addresses_have_a_host_and_a_port() {
        let addresses = |text: &str| load(&format!("{MINIMAL}advertise = \"{text}\"\n"), &[], &[]);
        assert_eq!(addresses("").expect("none").advertise, None);
        let two = addresses("n1.example.org:7098 [::1]:7098").expect("two").advertise;
        assert_eq!(two, Some(vec!["n1.example.org:7098".to_owned(), "[::1]:7098".to_owned()]));
        for wrong in ["n1.example.org", ":7098", "n1:0", "n1:70000", "a:1 b"] {
            assert!(addresses(wrong).expect_err("refused").contains("gramme.toml:3: advertise: "), "{wrong}");
        }
        assert!(addresses(&"n:1 ".repeat(9)).expect_err("too many").contains("at most 8"));
    }

    #[test]
    fn broken_toml_is_placed() {
        let error = load("http = \"127.0.0.1:1\"\nquic = = 3\n", &[], &[]).expect_err("broken");
        assert!(error.contains("gramme.toml:2:"), "{error}");
    }
}
