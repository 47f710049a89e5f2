//! Refuses that records go round without end: through transforms, views and the dead letters of ingest plugins, back to
//! where they came from.

use std::collections::BTreeMap;

use super::{TransformRefusal, TransformSpec};
use crate::cluster::Image;
use crate::config::{OnError, Role, TopicConfig};
use crate::ids::TopicName;

/// Checks that nothing that a new transform writes comes back to it.
pub(super) fn check_cycles(image: &Image, spec: &TransformSpec) -> Result<(), TransformRefusal> {
    let writes = |(topic, _): Stop<'_>| spec.outputs().any(|to| to.as_str() == topic);
    for source in &spec.sources {
        if let Some(mut path) = path_to(image, writes, source) {
            let back_to = path[0].clone();
            path.extend([spec.name.clone(), back_to]);
            return Err(TransformRefusal::Cycle(path));
        }
    }
    Ok(())
}

/// Checks that a view's new source is not made from the view, by transforms; by views alone it is refused elsewhere.
pub(in crate::cluster) fn check_view_source(
    image: &Image,
    view: &TopicName,
    source: &TopicName,
) -> Result<(), TransformRefusal> {
    match path_to(image, |(topic, _)| topic == view.as_str(), source) {
        Some(mut path) => {
            path.push(view.to_string());
            Err(TransformRefusal::Cycle(path))
        }
        None => Ok(()),
    }
}

/// Checks that what the ingest plugins of a topic fail on does not come back to the topic, through transforms. `configs` are
/// those that the topic is to have.
pub(in crate::cluster) fn check_dead_letters_of(
    image: &Image,
    topic: &TopicName,
    config: &TopicConfig,
) -> Result<(), TransformRefusal> {
    if image.transforms.is_empty() {
        return Ok(());
    }
    for (role, attachment) in config.attachments() {
        if let (Role::Ingest, OnError::DeadLetter(to)) = (role, &attachment.on_error)
            && let Some(mut path) = path_to(image, |stop| stop == (to.as_str(), false), topic)
        {
            path.extend([attachment.plugin.name.clone(), to.to_string()]);
            return Err(TransformRefusal::Cycle(path));
        }
    }
    Ok(())
}

/// A topic on the way, and whether records go on from it as dead letters of one of its ingest plugins. These see what
/// producers and transforms write, but no dead letters of other topics.
type Stop<'a> = (&'a str, bool);

/// Where records go from each stop that leads to the end: to another one, and by which transform or plugin, if not by a view.
type Onward<'a> = BTreeMap<Stop<'a>, Option<(Option<&'a str>, Stop<'a>)>>;

/// The way that records take to `end` from a topic that is a `start`, with all topics, views, transforms and plugins on it.
fn path_to(image: &Image, start: impl Fn(Stop<'_>) -> bool, end: &TopicName) -> Option<Vec<String>> {
    let letters = letters(image);
    let last: Stop<'_> = (end.as_str(), false);
    let mut onward: Onward<'_> = BTreeMap::from([(last, None)]);
    let mut open = vec![last];
    while let Some(at) = open.pop() {
        if start(at) {
            return Some(written_out(&onward, at));
        }
        let (topic, as_letters) = at;
        let view_source = image.topic(topic).and_then(|topic| topic.view_source());
        let writers = image
            .transforms()
            .filter(|transform| transform.spec.outputs().any(|to| to.as_str() == topic));
        let read = writers.flat_map(|transform| {
            let by = Some(transform.spec.name.as_str());
            transform
                .spec
                .sources
                .iter()
                .map(move |from| (by, (from.as_str(), false)))
        });
        let failed = letters
            .iter()
            .filter(|(to, ..)| to.as_str() == topic && !as_letters);
        let failed = failed.map(|(_, from, by)| (Some(by.as_str()), (from.as_str(), true)));
        let before = view_source.map(|from| (None, (from, false))).into_iter();
        for (by, from) in before.chain(read).chain(failed) {
            onward.entry(from).or_insert_with(|| {
                open.push(from);
                Some((by, at))
            });
        }
    }
    None
}

/// Dead-letter topics, the topics whose ingest plugins send there what they fail on, and these plugins.
fn letters(image: &Image) -> Vec<(TopicName, TopicName, String)> {
    let all = image.attachments().filter_map(|(topic, role, attachment)| {
        let OnError::DeadLetter(to) = attachment.on_error else {
            return None;
        };
        (role == Role::Ingest).then(|| (to, topic.name.clone(), attachment.plugin.name))
    });
    all.collect()
}

fn written_out(onward: &Onward<'_>, start: Stop<'_>) -> Vec<String> {
    let mut path = vec![start.0.to_owned()];
    let mut at = start;
    while let Some(Some((by, to))) = onward.get(&at) {
        path.extend(by.map(str::to_owned));
        path.push(to.0.to_owned());
        at = *to;
    }
    path
}
