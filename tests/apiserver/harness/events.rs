//! Reads the events of a world. Touches the API server.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::{World, holds, until};

impl World {
    /// Waits until the reasons of the events about a verification are these, in alphabetical order. Events are
    /// published after the write, in the background.
    pub(crate) async fn until_events(&self, name: &str, reasons: &[&str]) {
        let published = async || {
            let events = self.events(name).await;
            if events == reasons { Ok(()) } else { Err(events) }
        };
        let report = |events| format!("events about {name}: {events:?}, not {reasons:?}\n{}", self.report());
        until(published, report).await;
    }

    /// Waits until there is an event about a verification.
    pub(crate) async fn until_event(&self, name: &str, reason: &str) {
        let published = async || holds(self.events(name).await.iter().any(|known| known == reason));
        until(published, |()| format!("no event {reason} about {name}\n{}", self.report())).await;
    }

    /// The notes of the events of that reason about a verification so far.
    pub(crate) async fn notes(&self, name: &str, reason: &str) -> Vec<String> {
        let about = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        };
        let all = self.all_events().await.into_iter();
        all.filter(about).filter_map(|event| event.note).collect()
    }

    /// The reasons of the events about a verification so far, in alphabetical order.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let all = self.all_events().await;
        let about = |event: &&Event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        };
        let mut reasons: Vec<_> = all.iter().filter(about).filter_map(|event| event.reason.clone()).collect();
        reasons.sort();
        reasons
    }

    /// Every event of the namespace.
    pub(crate) async fn all_events(&self) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        api.list(&ListParams::default()).await.expect("list events").items
    }
}
