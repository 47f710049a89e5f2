//! The attributes of `millstream-plugin`, which re-exports and documents them: each makes the component's plugin of what it stands
//! before, a function or an `impl` of the trait of the same world.
//!
//! They only find the name: the function's, or the type's. All else is written out with that name put in, and what is wrong
//! with the function's parameters is then found, and told at its place, by the compiler.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Makes a function, or an `impl Filter`, the component's filter.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&FILTER, arguments, item)
}

/// Makes a function, or an `impl Partitioner`, the component's partitioner.
#[proc_macro_attribute]
pub fn partitioner(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&PARTITIONER, arguments, item)
}

/// Makes a function, or an `impl Transform`, the component's transform.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&TRANSFORM, arguments, item)
}

/// A world, and what is written for it. `__NAME__` stands for the function or the type.
struct World {
    attribute: &'static str,
    /// Exports a type.
    export: &'static str,
    /// Makes a type of a function.
    wrap: &'static str,
}

const FILTER: World = World {
    attribute: "filter",
    export: "::millstream_plugin::__filter!(__NAME__);",
    wrap: "const _: () = {
        struct __Exported;

        impl ::millstream_plugin::Filter for __Exported {
            fn configure(config: &[u8]) -> ::core::result::Result<Self, ::std::string::String> {
                ::millstream_plugin::batch::no_configuration(config).map(|()| __Exported)
            }

            fn keep(
                &mut self,
                record: &::millstream_plugin::Record<'_>,
            ) -> ::core::result::Result<bool, ::std::string::String> {
                ::millstream_plugin::Outcome::<bool>::into_result(__NAME__(record))
            }
        }

        ::millstream_plugin::__filter!(__Exported);
    };",
};

const PARTITIONER: World = World {
    attribute: "partitioner",
    export: "::millstream_plugin::__partitioner!(__NAME__);",
    wrap: "const _: () = {
        struct __Exported;

        impl ::millstream_plugin::Partitioner for __Exported {
            fn configure(config: &[u8]) -> ::core::result::Result<Self, ::std::string::String> {
                ::millstream_plugin::batch::no_configuration(config).map(|()| __Exported)
            }

            fn partition(
                &mut self,
                record: &::millstream_plugin::Record<'_>,
                partitions: u32,
            ) -> ::core::result::Result<u32, ::std::string::String> {
                ::millstream_plugin::Outcome::<u32>::into_result(__NAME__(record, partitions))
            }
        }

        ::millstream_plugin::__partitioner!(__Exported);
    };",
};

const TRANSFORM: World = World {
    attribute: "transform",
    export: "::millstream_plugin::__transform!(__NAME__);",
    wrap: "const _: () = {
        struct __Exported;

        impl ::millstream_plugin::Transform for __Exported {
            fn configure(config: &[u8]) -> ::core::result::Result<Self, ::std::string::String> {
                ::millstream_plugin::batch::no_configuration(config).map(|()| __Exported)
            }

            fn transform(
                &mut self,
                record: &::millstream_plugin::Record<'_>,
                output: &mut ::millstream_plugin::Output,
            ) -> ::core::result::Result<(), ::std::string::String> {
                ::millstream_plugin::Outcome::<()>::into_result(__NAME__(record, output))
            }
        }

        ::millstream_plugin::__transform!(__Exported);
    };",
};

/// The item as it was, and behind it what exports it.
fn expand(world: &World, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut out = item.clone();
    let made = match arguments.into_iter().next() {
        Some(argument) => Err(Mistake {
            what: format!("#[{}] takes no arguments", world.attribute),
            at: argument.span(),
        }),
        None => find(world, item),
    };
    out.extend(match made {
        Ok(Item::Function(name)) => fill(world.wrap, &TokenStream::from(TokenTree::Ident(name))),
        Ok(Item::Implementation(name)) => fill(world.export, &name),
        Err(mistake) => mistake.told(),
    });
    out
}

/// What an attribute stands before.
enum Item {
    /// A function of this name.
    Function(Ident),
    /// An `impl` for this type.
    Implementation(TokenStream),
}

/// What cannot be exported.
struct Mistake {
    what: String,
    at: Span,
}

impl Mistake {
    /// As an error of the compiler.
    fn told(&self) -> TokenStream {
        let error = fill(
            &format!("::core::compile_error!({:?});", self.what),
            &TokenStream::new(),
        );
        respan(error, self.at)
    }
}

fn find(world: &World, item: TokenStream) -> Result<Item, Mistake> {
    let attribute = world.attribute;
    let mistake = |what: String, at: Span| Err(Mistake { what, at });
    let mut tokens = item.into_iter();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(word) = token else {
            // Attributes, documentation, and what stands behind `pub`.
            continue;
        };
        let at = word.span();
        match word.to_string().as_str() {
            "fn" => match tokens.next() {
                Some(TokenTree::Ident(name)) => return Ok(Item::Function(name)),
                _ => return mistake("a function has a name".to_owned(), at),
            },
            "impl" => return implementation(tokens, at),
            "pub" => {}
            "async" | "unsafe" | "extern" | "const" => {
                return mistake(
                    format!("#[{attribute}] wants a plain function, not one that is {word}"),
                    at,
                );
            }
            _ => {
                return mistake(
                    format!("#[{attribute}] stands before a function or an impl, not before {word}"),
                    at,
                );
            }
        }
    }
    let what = format!("#[{attribute}] stands before a function or an impl");
    mistake(what, Span::call_site())
}

/// The type between `for` and the braces.
fn implementation(tokens: impl Iterator<Item = TokenTree>, at: Span) -> Result<Item, Mistake> {
    let is_for = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "for");
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(word) => word.to_string() == "where",
        _ => false,
    };
    let name: TokenStream = tokens
        .skip_while(|token| !is_for(token))
        .skip(1)
        .take_while(|token| !is_end(token))
        .collect();
    if name.is_empty() {
        let what = "an impl that is exported is one of a trait: `impl Transform for Type`".to_owned();
        return Err(Mistake { what, at });
    }
    Ok(Item::Implementation(name))
}

/// A template with a name put in. The name keeps its place in the source, where the compiler then shows what is wrong with it.
fn fill(template: &str, name: &TokenStream) -> TokenStream {
    let tokens: TokenStream = template.parse().expect("templates are valid");
    put(tokens, name)
}

fn put(tokens: TokenStream, name: &TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(word) if word.to_string() == "__NAME__" => name.clone(),
            TokenTree::Group(group) => {
                let filled = Group::new(group.delimiter(), put(group.stream(), name));
                TokenTree::Group(filled).into()
            }
            other => other.into(),
        })
        .collect()
}

fn respan(tokens: TokenStream, at: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            if let TokenTree::Group(group) = &token {
                token = TokenTree::Group(Group::new(group.delimiter(), respan(group.stream(), at)));
            }
            token.set_span(at);
            token
        })
        .collect()
}
