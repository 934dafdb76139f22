//! What is known of each fault: the one list that the parser, `auk sim inject` and `auk sim faults` read.

use serde::Serialize;

/// What a fault can befall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Chips.
    Chip,
    /// NICs.
    Nic,
    /// Both.
    Device,
}

impl Target {
    /// For sentences.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Chip => "chips",
            Self::Nic => "NICs",
            Self::Device => "chips and NICs",
        }
    }
}

/// What a fault waits for, if nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Nothing: it happens at once.
    Now,
    /// An entry that is taken from a submission ring.
    Command,
    /// A completion that is to be posted.
    Completion,
    /// An interrupt of an I/O queue that is to be fired.
    Interrupt,
    /// A doorbell that has moved.
    Doorbell,
    /// A trapped access to page 0 of BAR0.
    Register,
    /// A reset of the function.
    Reset,
    /// A start of the firmware.
    Boot,
}

impl Occasion {
    /// For sentences: "the next ...".
    #[must_use]
    pub const fn next(self) -> &'static str {
        match self {
            Self::Now => "moment",
            Self::Command => "command",
            Self::Completion => "completion",
            Self::Interrupt => "interrupt",
            Self::Doorbell => "doorbell",
            Self::Register => "register access",
            Self::Reset => "reset",
            Self::Boot => "start of the firmware",
        }
    }
}

/// How a parameter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Words.
    Text,
}

/// A parameter of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// As it is written in JSON and TOML.
    pub name: &'static str,
    /// How its value is written.
    pub form: Form,
    /// What it is when nothing is said, as JSON; `None` when it must be given.
    pub default: Option<&'static str>,
    /// What it says.
    pub what: &'static str,
}

/// One fault of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// As it is written.
    pub name: &'static str,
    /// What it can befall.
    pub target: Target,
    /// What it waits for.
    pub occasion: Occasion,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// What happens.
    pub what: &'static str,
    /// What that looks like from outside.
    pub looks: &'static str,
}

/// The types that parameters have.
pub(crate) trait Written {
    const FORM: Form;
}

macro_rules! written {
    ($($type:ty => $form:ident),*) => {
        $(impl Written for $type {
            const FORM: Form = Form::$form;
        })*
    };
}

written!(u8 => Number, u16 => Number, u32 => Number, u64 => Number, i32 => Number, bool => Switch, String => Text);

/// A table of faults as an enum, its names and its catalogue.
macro_rules! verbs {
    (@default) => { None };
    (@default $default:literal) => { Some(stringify!($default)) };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Verb:ident {
            $(
                $(#[doc = $what:literal])+
                #[looks = $looks:literal]
                $variant:ident = $name:literal ($target:ident, $occasion:ident)
                $({ $($(#[doc = $meaning:literal])+ $field:ident: $type:ty $(= $default:literal)?),* $(,)? })?,
            )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "verb")]
        $visibility enum $Verb {
            $(
                $(#[doc = $what])+
                #[serde(rename = $name)]
                $variant $({ $($(#[doc = $meaning])+ $field: $type),* })?,
            )*
        }

        impl $Verb {
            /// All that can be injected.
            pub const CATALOGUE: &'static [$crate::inject::Entry] = &[
                $($crate::inject::Entry {
                    name: $name,
                    target: $crate::inject::Target::$target,
                    occasion: $crate::inject::Occasion::$occasion,
                    parameters: &[$($($crate::inject::Parameter {
                        name: stringify!($field),
                        form: <$type as $crate::inject::catalogue::Written>::FORM,
                        default: verbs!(@default $($default)?),
                        what: concat!($($meaning),+),
                    }),*)?],
                    what: concat!($($what),+),
                    looks: $looks,
                },)*
            ];

            /// As it is written.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }
        }
    };
}

pub(crate) use verbs;
