//! What the crate says in the log, caught.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) level: Level,
    /// The fields as text; the message is the field `message`.
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Entry {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.field("message")
    }
}

type Entries = Arc<Mutex<Vec<Entry>>>;

struct Catch(Entries);

impl<S: Subscriber> Layer<S> for Catch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("tenure") {
            return;
        }
        struct Fields(BTreeMap<&'static str, String>);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.insert(field.name(), format!("{value:?}"));
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name(), value.to_owned());
            }
        }
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let entry = Entry { level: *event.metadata().level(), fields: fields.0 };
        self.0.lock().unwrap().push(entry);
    }
}

/// Runs `work`, and returns what this thread has said meanwhile.
pub(crate) fn logged<R>(work: impl FnOnce() -> R) -> (R, Vec<Entry>) {
    let entries = Entries::default();
    let subscriber = Registry::default().with(Catch(Arc::clone(&entries)));
    let result = tracing::subscriber::with_default(subscriber, work);
    let entries = entries.lock().unwrap().clone();
    (result, entries)
}

/// The warnings of all threads since the first call.
pub(crate) fn warnings_of_all_threads() -> Vec<Entry> {
    static ENTRIES: OnceLock<Entries> = OnceLock::new();
    let entries = ENTRIES.get_or_init(|| {
        let entries = Entries::default();
        let catch = Catch(Arc::clone(&entries)).with_filter(LevelFilter::WARN);
        tracing::subscriber::set_global_default(Registry::default().with(catch))
            .expect("nobody else sets one in this process");
        entries
    });
    entries.lock().unwrap().clone()
}
