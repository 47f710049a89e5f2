//! How a cluster begins: empty, or with what a lone broker held.

use super::{FEATURE_LEVELS, Image, Outcome, Refusal};

/// The brokers of the image that it begins with are fenced until they register as part of the cluster.
pub(super) fn bootstrap(
    image: &mut Image,
    cluster_id: &str,
    begin_with: Option<&Image>,
) -> Result<Outcome, Refusal> {
    let owners = [Some(&*image), begin_with].into_iter().flatten();
    if let Some(known) = owners.filter_map(Image::cluster_id).next() {
        return Err(Refusal::Bootstrapped(known.to_owned()));
    }
    if let Some(begin_with) = begin_with {
        if image.version != 0 {
            return Err(Refusal::NotFirst(image.version));
        }
        *image = begin_with.clone();
        let served: Vec<_> = image.brokers.keys().copied().collect();
        for id in served {
            image.fence(id);
        }
    }
    image.cluster_id = Some(cluster_id.to_owned());
    image.feature_level = image.feature_level.max(FIRST_LEVEL);
    Ok(Outcome::Done)
}

/// A cluster begins with the lowest level that this binary can run, so that older binaries can still join.
const FIRST_LEVEL: u16 = FEATURE_LEVELS.0;
