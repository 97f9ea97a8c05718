//! A pool that was opened before the recorder is not silently deaf. In a process of its own, for there
//! is one recorder for a process, for ever.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tenure::prometheus::metrics_exporter_prometheus::PrometheusBuilder;
use tenure::prometheus::{InstallError, install, with_buckets};
use tenure::{Pool, testing};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Sends every warning as text.
struct Warnings(Sender<String>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let _ = self.0.send(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn opened(name: &str) -> Pool {
    testing::temporary_with(Pool::builder().name(name)).unwrap()
}

fn warning(warnings: &Receiver<String>) -> String {
    warnings.recv_timeout(Duration::from_secs(60)).expect("a warning within a second or so")
}

#[test]
fn a_pool_opened_before_the_recorder_is_named() {
    let (sender, warnings) = channel();
    tracing::subscriber::set_global_default(Warnings(sender)).unwrap();
    let early = opened("early");
    // It is not to record, so it misses nothing.
    let silent = testing::temporary_with(Pool::builder().name("silent").metrics(false)).unwrap();

    // Refused, and nothing is installed.
    let error = install().unwrap_err();
    assert!(error.to_string().contains("early"), "{error}");
    match error {
        InstallError::PoolsOpenedBefore { pools, .. } => assert_eq!(pools, ["early"]),
        other => panic!("{other}"),
    }
    assert!(warnings.try_recv().is_err(), "there is no recorder yet");

    // An application's own cannot be refused, but the log says it.
    let recorder = with_buckets(PrometheusBuilder::new()).build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let said = warning(&warnings);
    assert!(said.contains("\"early\"") && said.contains("install it first"), "{said}");

    // Opened afterwards, it is heard.
    let late = opened("late");
    drop((early.read().unwrap(), silent.read().unwrap(), late.read().unwrap()));
    tenure::metrics::publish_all();
    let page = handle.render();
    let one = "tenure_checkouts_total{pool=\"late\",role=\"read\",outcome=\"immediate\"} 1";
    assert!(page.contains(one), "{page}");
    assert!(!page.contains("early") && !page.contains("silent"), "{page}");

    // Said once, and not of the others: housekeeping has looked again when this one has ended.
    let builder = Pool::builder().name("marker").long_held_after(Duration::from_millis(1));
    let marker = testing::temporary_with(builder).unwrap();
    let held = marker.read().unwrap();
    let said = warning(&warnings);
    assert!(said.contains("marker") && !said.contains("install"), "{said}");
    drop(held);
    assert!(matches!(install(), Err(InstallError::PoolsOpenedBefore { .. })));
    drop(early);
    assert!(matches!(install(), Err(InstallError::RecorderExists)));
}
