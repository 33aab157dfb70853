//! A copy of the objects that a watch is about, as a plain value fed with the watch's events. It changes
//! in whole lists: after a gap it never shows half of one.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, utils::Backoff, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;

use super::deadline::WATCH;

/// Namespace and name.
type Key = (String, String);

/// The objects of one watch.
#[derive(Debug, Clone)]
pub struct Mirror<K> {
    objects: BTreeMap<Key, K>,
    coming: Option<BTreeMap<Key, K>>,
    complete: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), coming: None, complete: false }
    }
}

impl<K: ResourceExt> Mirror<K> {
    /// Takes in one event. Answers whether there may be something new to see.
    pub fn apply(&mut self, event: Event<K>) -> bool {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => {
                self.coming = Some(BTreeMap::new());
                return false;
            }
            Event::InitApply(object) => {
                self.coming.get_or_insert_default().insert(key(&object), object);
                return false;
            }
            Event::InitDone => {
                self.objects = self.coming.take().unwrap_or_default();
                self.complete = true;
            }
            Event::Apply(object) => drop(self.objects.insert(key(&object), object)),
            Event::Delete(object) => drop(self.objects.remove(&key(&object))),
        }
        self.complete
    }

    /// Whether a whole list was seen; nothing may be concluded before.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The objects by namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }
}

/// Waits between attempts to watch: short, because the operator sees nothing meanwhile.
#[derive(Debug, Clone)]
struct Retry {
    next: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(5);
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        Some(now)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// Watches forever; errors are passed on and the watch goes on by itself.
pub fn watch<K>(api: Api<K>, config: watcher::Config) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    watcher(api, config.timeout(seconds)).backoff(Retry { next: Retry::FIRST }).boxed()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": name } })).unwrap()
    }

    fn names(mirror: &Mirror<ConfigMap>) -> Vec<String> {
        mirror.objects().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn a_list_is_shown_whole_or_not_at_all() {
        let mut mirror = Mirror::default();
        assert!(!mirror.apply(Event::Init));
        assert!(!mirror.apply(Event::InitApply(object("a"))));
        assert!(!mirror.complete());
        assert!(mirror.apply(Event::InitDone));
        assert!(mirror.apply(Event::Apply(object("b"))));
        assert_eq!(names(&mirror), ["a", "b"]);
        mirror.apply(Event::Init);
        mirror.apply(Event::InitApply(object("c")));
        assert_eq!(names(&mirror), ["a", "b"], "until the new list is whole");
        mirror.apply(Event::InitDone);
        assert_eq!(names(&mirror), ["c"]);
        assert!(mirror.apply(Event::Delete(object("c"))));
        assert_eq!(names(&mirror), Vec::<String>::new());
    }

    #[test]
    fn retries_are_never_far_apart() {
        let waits: Vec<_> = Retry { next: Retry::FIRST }.take(8).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }
}
