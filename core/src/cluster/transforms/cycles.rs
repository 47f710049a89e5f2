//! Refuses that records go round without end: through transforms and views, back to where they came from.

use std::collections::BTreeMap;

use super::{TransformRefusal, TransformSpec};
use crate::cluster::Image;
use crate::ids::TopicName;

/// Checks that nothing that a new transform writes comes back to it.
pub(super) fn check_cycles(image: &Image, spec: &TransformSpec) -> Result<(), TransformRefusal> {
    let writes = |topic: &str| spec.outputs().any(|to| to.as_str() == topic);
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
    match path_to(image, |topic| topic == view.as_str(), source) {
        Some(mut path) => {
            path.push(view.to_string());
            Err(TransformRefusal::Cycle(path))
        }
        None => Ok(()),
    }
}

/// The way that records take to `end` from a topic that is a `start`, with all topics, views and transforms on it.
fn path_to(image: &Image, start: impl Fn(&str) -> bool, end: &TopicName) -> Option<Vec<String>> {
    // Where records go from each topic that leads to the end: to another topic or view, and by which transform.
    let mut onward: BTreeMap<&str, Option<(Option<&str>, &str)>> = BTreeMap::from([(end.as_str(), None)]);
    let mut open = vec![end.as_str()];
    while let Some(at) = open.pop() {
        if start(at) {
            return Some(written_out(&onward, at));
        }
        let view_source = image.topic(at).and_then(|topic| topic.view_source());
        let writers = image
            .transforms()
            .filter(|transform| transform.spec.outputs().any(|to| to.as_str() == at));
        let read = writers.flat_map(|transform| {
            let by = Some(transform.spec.name.as_str());
            transform.spec.sources.iter().map(move |from| (by, from.as_str()))
        });
        for (by, from) in view_source.map(|from| (None, from)).into_iter().chain(read) {
            onward.entry(from).or_insert_with(|| {
                open.push(from);
                Some((by, at))
            });
        }
    }
    None
}

fn written_out(onward: &BTreeMap<&str, Option<(Option<&str>, &str)>>, start: &str) -> Vec<String> {
    let mut path = vec![start.to_owned()];
    let mut at = start;
    while let Some(Some((by, to))) = onward.get(at) {
        path.extend(by.map(str::to_owned));
        path.push((*to).to_owned());
        at = to;
    }
    path
}
