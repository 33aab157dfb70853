//! Log lines: JSON for machines, plain for a terminal, and a level that can be changed while running.
//!
//! Lines go to standard error; standard output belongs to what a command was asked to print.

use std::io::{IsTerminal, stderr};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    fmt::{MakeWriter, format::FmtSpan, layer},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// Longest level text that is read, in bytes.
pub const LEVEL_LEN_MAX: usize = 1024;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// Text on a terminal, JSON otherwise.
    #[must_use]
    pub fn automatic() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no level and no list of directives.
    #[error(
        "{text:?} is not a log level, hint: use error, warn, info, debug, trace, or directives such as \
         info,baton::mysql=debug"
    )]
    Level {
        /// The text, shortened.
        text: String,
    },
    /// Another logger is installed in this process.
    #[error("another logger is installed already")]
    Installed,
    /// The logger is gone.
    #[error("the logger has ended")]
    Ended,
}

/// Which lines are written, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

impl std::str::FromStr for Level {
    type Err = LogError;

    /// A bare level is about Baton's own lines; the libraries below it stay at `warn`, because their
    /// `debug` is a flood that hides what was asked for. Directives are taken as they are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let wrong = || LogError::Level { text: text.chars().take(80).collect() };
        if text.is_empty() || text.len() > LEVEL_LEN_MAX {
            return Err(wrong());
        }
        let directives = match text.parse::<LevelFilter>() {
            Ok(level) if level > LevelFilter::WARN => format!("warn,baton={text}"),
            _ => text.to_owned(),
        };
        EnvFilter::try_new(&directives).map_err(|_| wrong())?;
        Ok(Self(directives))
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Level {
    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// Changes the level of a running logger.
#[derive(Debug, Clone)]
pub struct LevelControl {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LevelControl {
    /// From now on, writes the lines that `level` lets through.
    ///
    /// # Errors
    /// [`LogError::Ended`] when the logger is gone.
    pub fn set(&self, level: &Level) -> Result<(), LogError> {
        self.filter.reload(level.filter()).map_err(|_| LogError::Ended)
    }

    /// The directives in force.
    ///
    /// # Errors
    /// [`LogError::Ended`] when the logger is gone.
    pub fn get(&self) -> Result<String, LogError> {
        self.filter.with_current(ToString::to_string).map_err(|_| LogError::Ended)
    }
}

/// A logger that writes to `writer`, and the control of its level.
pub fn subscriber<W>(level: &Level, format: Format, writer: W) -> (impl Subscriber + Send + Sync, LevelControl)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level.filter());
    let lines = layer().with_writer(writer).with_span_events(FmtSpan::NONE);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Format::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
    };
    (Registry::default().with(filter).with(lines), LevelControl { filter: handle })
}

/// Installs the logger of this process; lines go to standard error.
///
/// # Errors
/// [`LogError::Installed`] when there is one already.
pub fn start(level: &Level, format: Format) -> Result<LevelControl, LogError> {
    let (subscriber, control) = subscriber(level, format, stderr);
    subscriber.try_init().map_err(|_| LogError::Installed)?;
    Ok(control)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was logged, as a test sees it.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// Runs `act` and parses each line it logged, without its time.
        pub(crate) fn of(level: &str, act: impl FnOnce(&LevelControl)) -> Vec<serde_json::Value> {
            let lines = Self::default();
            let writer = lines.clone();
            let (subscriber, control) = subscriber(&level.parse().unwrap(), Format::Json, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || act(&control));
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            text.lines().map(without_time).collect()
        }
    }

    fn without_time(line: &str) -> serde_json::Value {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line.as_object_mut().unwrap().remove("timestamp").is_some());
        line
    }

    #[test]
    fn a_line_is_one_json_object_with_its_fields() {
        let lines = Lines::of("info", |_| tracing::info!(cluster = "a/b", epoch = 7, "a/b: \"quoted\"\nnext"));
        assert_eq!(
            lines,
            [serde_json::json!({
                "level": "INFO", "target": "baton::telemetry::logging::tests",
                "message": "a/b: \"quoted\"\nnext", "cluster": "a/b", "epoch": 7,
            })]
        );
    }

    #[test]
    fn the_level_changes_while_running() {
        let lines = Lines::of("info", |control| {
            tracing::debug!("before");
            control.set(&"debug".parse().unwrap()).unwrap();
            tracing::debug!("after");
            tracing::debug!(target: "kube_client", "a library");
            assert_eq!(control.get().unwrap(), "baton=debug,warn");
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["after"]);
    }

    #[test]
    fn directives_reach_libraries_and_nonsense_is_refused() {
        assert_eq!("kube=trace,info".parse::<Level>().unwrap().to_string(), "kube=trace,info");
        assert_eq!("error".parse::<Level>().unwrap().to_string(), "error");
        let long = "x".repeat(LEVEL_LEN_MAX + 1);
        for text in ["", "  ", "loud=very=much", "baton=loud", &long] {
            let error = text.parse::<Level>().unwrap_err().to_string();
            assert!(error.contains("is not a log level"), "{error}");
        }
    }
}
