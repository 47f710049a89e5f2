//! Declarations of messages.

/// Declares structs of a message.
///
/// A field is `name: Type [= default], VERSIONS [, tag N] [, null VERSIONS];`. The first range has the versions that
/// have the field: elsewhere it is not written, and decodes to its default. `tag` makes it a tagged field, written
/// where it differs from its default; tags ascend. `null` narrows the versions in which an `Option` may be null.
macro_rules! codec {
    (@default) => { ::std::default::Default::default() };
    (@default $default:expr) => { $default };

    (@is_plain) => { true };
    (@is_plain $tag:literal) => { false };

    (@read $reader:ident $layout:ident $type:ty, $versions:expr, [$($default:expr)?]) => {
        if $layout.is_in(&($versions)) {
            <$type as $crate::wire::Field>::read($reader, $layout)?
        } else {
            codec!(@default $($default)?)
        }
    };
    (@read $reader:ident $layout:ident $type:ty, $versions:expr, [$($default:expr)?] $tag:literal) => {
        codec!(@default $($default)?)
    };

    (@write $self:ident $writer:ident $layout:ident $field:ident, $versions:expr;) => {
        if $layout.is_in(&($versions)) {
            $crate::wire::Field::write(&$self.$field, $writer, $layout)?;
        }
    };
    (@write $self:ident $writer:ident $layout:ident $field:ident, $versions:expr; $tag:literal) => {};

    (@count $self:ident $layout:ident $field:ident $type:ty, $versions:expr, [$($default:expr)?]) => { 0 };
    (@count $self:ident $layout:ident $field:ident $type:ty, $versions:expr, [$($default:expr)?] $tag:literal) => {
        u32::from($layout.is_in(&($versions)) && {
            let default: $type = codec!(@default $($default)?);
            $self.$field != default
        })
    };

    (@tag $self:ident $writer:ident $layout:ident $field:ident $type:ty, $versions:expr, [$($default:expr)?]) => {};
    (@tag $self:ident $writer:ident $layout:ident $field:ident $type:ty, $versions:expr, [$($default:expr)?]
        $tag:literal) => {
        let default: $type = codec!(@default $($default)?);
        if $layout.is_in(&($versions)) && $self.$field != default {
            $writer.tagged($tag, |writer| $crate::wire::Field::write(&$self.$field, writer, $layout))?;
        }
    };

    ($(
        $(#[$struct_meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$meta:meta])*
                $field:ident : $type:ty $(= $default:expr)?, $versions:expr
                $(, tag $tag:literal)? $(, null $nullable:expr)?
            );* $(;)?
        }
    )*) => { $(
        $(#[$struct_meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$meta])* pub $field: $type, )*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $( $field: codec!(@default $($default)?), )* }
            }
        }

        impl $crate::wire::Field for $name {
            const BYTES_MIN: usize = {
                let sum = 0 $( + if $crate::wire::always(&($versions)) && codec!(@is_plain $($tag)?) {
                    <$type as $crate::wire::Field>::BYTES_MIN
                } else {
                    0
                } )*;
                if sum == 0 { 1 } else { sum }
            };

            fn read(
                reader: &mut $crate::wire::Reader,
                layout: $crate::wire::Layout,
            ) -> ::std::result::Result<Self, $crate::wire::DecodeError> {
                $(
                    #[allow(unused_mut, reason = "only tagged fields are set later")]
                    let mut $field: $type = codec!(@read reader layout $type, $versions, [$($default)?] $($tag)?);
                    $( if layout.is_in(&($versions))
                        && !layout.is_in(&($nullable))
                        && $crate::wire::Field::is_null(&$field)
                    {
                        return Err(reader.fault($crate::wire::DecodeErrorKind::Null(stringify!($field))));
                    } )?
                )*
                if layout.flexible {
                    for _ in 0..reader.varint()? {
                        let (tag, outer) = reader.enter_tag()?;
                        match tag {
                            $( $( $tag if layout.is_in(&($versions)) => {
                                $field = <$type as $crate::wire::Field>::read(reader, layout)?;
                            } )? )*
                            _ => reader.skip_tag(),
                        }
                        reader.leave_tag(outer)?;
                    }
                }
                Ok(Self { $( $field, )* })
            }

            fn write(
                &self,
                writer: &mut $crate::wire::Writer,
                layout: $crate::wire::Layout,
            ) -> ::std::result::Result<(), $crate::wire::EncodeError> {
                $(
                    $( if layout.is_in(&($versions))
                        && !layout.is_in(&($nullable))
                        && $crate::wire::Field::is_null(&self.$field)
                    {
                        return Err($crate::wire::EncodeError::Null(stringify!($field)));
                    } )?
                    codec!(@write self writer layout $field, $versions; $($tag)?);
                )*
                if layout.flexible {
                    let tags = 0 $( + codec!(@count self layout $field $type, $versions, [$($default)?] $($tag)?) )*;
                    writer.varint(tags);
                    $( codec!(@tag self writer layout $field $type, $versions, [$($default)?] $($tag)?); )*
                }
                Ok(())
            }
        }

        /// Null or a struct, told apart by a byte before it.
        impl $crate::wire::Field for ::std::option::Option<$name> {
            const BYTES_MIN: usize = 1;

            fn read(
                reader: &mut $crate::wire::Reader,
                layout: $crate::wire::Layout,
            ) -> ::std::result::Result<Self, $crate::wire::DecodeError> {
                if <i8 as $crate::wire::Field>::read(reader, layout)? < 0 {
                    return Ok(None);
                }
                <$name as $crate::wire::Field>::read(reader, layout).map(Some)
            }

            fn write(
                &self,
                writer: &mut $crate::wire::Writer,
                layout: $crate::wire::Layout,
            ) -> ::std::result::Result<(), $crate::wire::EncodeError> {
                match self {
                    Some(present) => {
                        writer.array(1i8.to_be_bytes());
                        $crate::wire::Field::write(present, writer, layout)
                    }
                    None => {
                        writer.array((-1i8).to_be_bytes());
                        Ok(())
                    }
                }
            }

            fn is_null(&self) -> bool {
                self.is_none()
            }
        }

        #[cfg(test)]
        impl $crate::wire::generate::Generate for $name {
            fn generate(
                source: &mut $crate::wire::generate::Source<'_>,
                layout: $crate::wire::Layout,
                _: bool,
            ) -> Self {
                let _ = &source;
                Self { $(
                    $field: if layout.is_in(&($versions)) && (layout.flexible || codec!(@is_plain $($tag)?)) {
                        let nullable = true $( && layout.is_in(&($nullable)) )?;
                        <$type as $crate::wire::generate::Generate>::generate(source, layout, nullable)
                    } else {
                        codec!(@default $($default)?)
                    },
                )* }
            }
        }
    )* };
}

/// Makes two structs the request and the response of an API:
/// `request!(Api: Request => Response, versions MIN..=MAX, flexible MIN..)`.
macro_rules! request {
    (@flexible $version:ident) => { { let _ = $version; false } };
    (@flexible $version:ident $flexible:expr) => { ($flexible).contains(&$version) };

    ($key:ident : $request:ident => $response:ident, versions $versions:expr $(, flexible $flexible:expr)? $(,)?) => {
        impl $crate::Request for $request {
            type Response = $response;

            const KEY: $crate::ApiKey = $crate::ApiKey::$key;
            const VERSIONS: ::std::ops::RangeInclusive<i16> = $versions;

            fn is_flexible(version: i16) -> bool {
                request!(@flexible version $($flexible)?)
            }
        }

        request!(@message $request, $request);
        request!(@message $response, $request);
    };

    (@message $message:ident, $request:ident) => {
        impl $crate::wire::Message for $message {
            fn decode(
                reader: &mut $crate::wire::Reader,
                version: i16,
            ) -> ::std::result::Result<Self, $crate::wire::DecodeError> {
                let Some(layout) = $crate::wire::Layout::of::<$request>(version) else {
                    return Err(reader.fault($crate::wire::DecodeErrorKind::Version(version)));
                };
                <Self as $crate::wire::Field>::read(reader, layout)
            }

            fn encode(
                &self,
                writer: &mut $crate::wire::Writer,
                version: i16,
            ) -> ::std::result::Result<(), $crate::wire::EncodeError> {
                let layout = $crate::wire::Layout::of::<$request>(version)
                    .ok_or($crate::wire::EncodeError::Version(version))?;
                $crate::wire::Field::write(self, writer, layout)?;
                writer.check_length()
            }
        }
    };
}
