//! The sinks of a deployed transform, by their names.

/// The sinks that a deployed transform writes to, in the order of their places. There are none in filters and partitioners,
/// on ingest and for views.
///
/// [`Output::to`](crate::Output::to) knows them by itself. They are for plugins that want to know them before the first record: `configure`
/// refuses a configuration that names a sink that is not there, and keeps the places instead of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sinks {
    names: Vec<String>,
}

impl Sinks {
    /// Asks the broker. In a native test they are those of [`testing::Deployed`](crate::testing::Deployed).
    #[must_use]
    pub fn declared() -> Self {
        Sinks { names: ask() }
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of the sink with this name: what [`NewRecord::to_sink`](crate::NewRecord::to_sink) takes.
    ///
    /// # Errors
    /// There is none. The text says which names there are.
    #[inline]
    pub fn place(&self, name: &str) -> Result<u16, String> {
        match self.names.iter().position(|known| known == name) {
            Some(place) => Ok(u16::try_from(place).expect("a place has 16 bits")),
            None => Err(self.unknown(name)),
        }
    }

    #[cold]
    fn unknown(&self, name: &str) -> String {
        let names: Vec<_> = self.names.iter().map(|name| format!("{name:?}")).collect();
        match names.split_last() {
            None => format!(
                "there is no sink {name:?}: sinks have names only where a transform is deployed to them"
            ),
            Some((only, [])) => format!("there is no sink {name:?}, only {only}"),
            Some((last, others)) => {
                format!("there is no sink {name:?}, only {} and {last}", others.join(", "))
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
fn ask() -> Vec<String> {
    /// A list as calls of the host return it.
    #[repr(C)]
    struct Returned {
        list: *mut [usize; 2],
        length: usize,
    }
    #[link(wasm_import_module = "millstream:plugin/host@0.1.0")]
    unsafe extern "C" {
        #[link_name = "sinks"]
        fn host_sinks(returned: *mut Returned);
    }
    let mut returned = Returned {
        list: std::ptr::null_mut(),
        length: 0,
    };
    // SAFETY: the host writes the address and the length of a list there, and nothing else.
    unsafe { host_sinks(&raw mut returned) };
    let Returned { list, length } = returned;
    // SAFETY: by the canonical ABI the host allocated the list with `cabi_realloc`, which allocates as `Vec` does, and gave it up; an
    // element is the address and the length of a string.
    let list = unsafe { Vec::from_raw_parts(list, length, length) };
    let text = |[address, length]: [usize; 2]| {
        // SAFETY: the strings of the list were allocated and given up in the same way.
        let bytes = unsafe { crate::abi::list(std::ptr::with_exposed_provenance_mut(address), length) };
        String::from_utf8(bytes).expect("the host hands over text")
    };
    list.into_iter().map(text).collect()
}

#[cfg(not(target_arch = "wasm32"))]
fn ask() -> Vec<String> {
    crate::testing::declared()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sinks(names: &[&str]) -> Sinks {
        Sinks {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_sink_has_the_place_of_its_name() {
        let sinks = sinks(&["late", "early", "lost"]);
        assert_eq!((sinks.place("late"), sinks.place("lost")), (Ok(0), Ok(2)));
    }

    #[test]
    fn who_names_another_one_is_told_which_there_are() {
        let check = |names: &[&str], expected: &str| {
            assert_eq!(sinks(names).place("lat"), Err(expected.to_owned()));
        };
        check(
            &[],
            "there is no sink \"lat\": sinks have names only where a transform is deployed to them",
        );
        check(&["late"], "there is no sink \"lat\", only \"late\"");
        check(
            &["late", "early", "lost"],
            "there is no sink \"lat\", only \"late\", \"early\" and \"lost\"",
        );
    }
}
