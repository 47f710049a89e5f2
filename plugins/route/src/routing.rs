//! Which sink a record goes to.

use json_predicate::Predicates;
use json_scan::Malformed;
use millstream_plugin::Sinks;
use plugin_config::{Config, ConfigError, Setting};

/// A compiled configuration.
#[derive(Debug)]
pub struct Routing {
    predicates: Predicates,
    /// The sink of each predicate.
    places: Vec<u16>,
    otherwise: Destination,
    tombstones: Destination,
    sinks: u16,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// It is dropped.
    Nowhere,
    /// To the sink at this place.
    Sink(u16),
    /// To each sink.
    Everywhere,
}

impl Routing {
    /// Reads the configuration; all sinks that it names have to be there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8], sinks: &Sinks) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["routes", "otherwise", "tombstones"])?;
        let routes = config.required("routes")?;
        let mut predicates = Predicates::default();
        let mut places = Vec::new();
        for route in routes.list()? {
            let route = route.object(&["to", "where"])?;
            places.push(place(route.required("to")?, sinks)?);
            let predicate = route.required("where")?;
            let added = predicates.add(&predicate.text()?);
            added.map_err(|error| ConfigError::new(format!("{}: {error}", predicate.name())))?;
        }
        if places.is_empty() {
            return Err(routes.expected("one route at least"));
        }
        let otherwise = otherwise(config.required("otherwise")?, sinks)?;
        let tombstones = config.choice(
            "tombstones",
            &[
                ("otherwise", otherwise),
                ("all", Destination::Everywhere),
                ("drop", Destination::Nowhere),
            ],
        )?;
        Ok(Routing {
            predicates,
            places,
            otherwise,
            tombstones,
            sinks: u16::try_from(sinks.names().len()).unwrap_or(u16::MAX),
        })
    }

    /// Where a record with this value goes.
    ///
    /// # Errors
    /// The value is not JSON.
    pub fn destination(&mut self, value: Option<&[u8]>) -> Result<Destination, Malformed> {
        let Some(doc) = value else {
            return Ok(self.tombstones);
        };
        let first = self.predicates.first(doc)?;
        Ok(first.map_or(self.otherwise, |number| Destination::Sink(self.places[number])))
    }

    /// How many sinks there are.
    pub fn sinks(&self) -> u16 {
        self.sinks
    }
}

fn place(setting: &Setting<'_>, sinks: &Sinks) -> Result<u16, ConfigError> {
    let place = sinks.place(&setting.text()?);
    place.map_err(|reason| ConfigError::new(format!("{}: {reason}", setting.name())))
}

fn otherwise(setting: &Setting<'_>, sinks: &Sinks) -> Result<Destination, ConfigError> {
    if setting.text()? != DROP {
        return place(setting, sinks).map(Destination::Sink);
    }
    if sinks.place(DROP).is_ok() {
        return Err(ConfigError::new(
            "otherwise: \"drop\" drops the record, but a sink is called so too; give that sink another name",
        ));
    }
    Ok(Destination::Nowhere)
}

const DROP: &str = "drop";
