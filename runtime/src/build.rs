//! Makes components of core modules, with the contract that is built in.

use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::plugin::World;

/// Why a core module cannot become a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It is none.
    #[error("this is not a core module: {0}")]
    NotModule(String),
    /// It has the function of no world, or those of several.
    #[error(
        "the module must export exactly one of the functions filter, partition and transform, but exports {0}"
    )]
    World(String),
    /// Its imports or exports do not fit the world.
    #[error("{0}")]
    Misfit(String),
}

/// Makes a component of a core module that follows the canonical ABI. Which world it is follows from what it exports, unless
/// the module says so itself in a custom section, as those made with `wit-bindgen` do.
///
/// # Errors
/// The bytes are no core module, or do not fit a world.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    if !Parser::is_core_wasm(module) {
        let what = match Parser::is_component(module) {
            true => "it is a component already",
            false => "it is not WebAssembly",
        };
        return Err(BuildError::NotModule(what.to_owned()));
    }
    let surface = Surface::read(module).map_err(|error| BuildError::NotModule(error.to_string()))?;
    let mut module = module.to_vec();
    if !surface.typed {
        let world = match surface.worlds[..] {
            [world] => world,
            [] => return Err(BuildError::World("none".to_owned())),
            _ => return Err(BuildError::World("several".to_owned())),
        };
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", CONTRACT).map_err(misfit)?;
        let world = resolve
            .select_world(&[package], Some(world.name()))
            .map_err(misfit)?;
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(misfit)?;
    }
    let encoder = ComponentEncoder::default().module(&module).map_err(misfit)?;
    encoder.validate(true).encode().map_err(misfit)
}

/// What of a module matters here.
#[derive(Default)]
struct Surface {
    worlds: Vec<World>,
    typed: bool,
}

impl Surface {
    fn read(module: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut surface = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        let world = World::ALL
                            .into_iter()
                            .find(|world| world.export() == export.name && export.kind == ExternalKind::Func);
                        surface.worlds.extend(world);
                    }
                }
                Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                    surface.typed = true;
                }
                _ => {}
            }
        }
        Ok(surface)
    }
}

/// Errors of the encoder are chains; all of it is told.
fn misfit(error: impl std::fmt::Display) -> BuildError {
    BuildError::Misfit(format!("{error:#}"))
}

/// The contract as text, for whoever makes components in other ways.
pub const CONTRACT: &str = include_str!("../../wit/plugin.wit");
