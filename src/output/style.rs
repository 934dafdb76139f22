//! Colour: on a terminal, and only when `NO_COLOR` is not set (<https://no-color.org>).

use std::io::IsTerminal;

use comfy_table::Color;

/// What a text means to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// Well.
    Good,
    /// Wants a look.
    Doubtful,
    /// Wrong.
    Bad,
}

impl Tone {
    pub(super) const fn color(self) -> Option<Color> {
        match self {
            Self::Plain | Self::Heading => None,
            Self::Good => Some(Color::DarkGreen),
            Self::Doubtful => Some(Color::DarkYellow),
            Self::Bad => Some(Color::DarkRed),
        }
    }

    /// The text in the tone's colour, by the select graphic rendition codes of ECMA-48.
    pub(super) fn paint(self, text: &str, colored: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            _ if !colored => return text.to_owned(),
            Self::Heading => "1",
            Self::Good => "32",
            Self::Doubtful => "33",
            Self::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Whether the user lets anything be coloured.
pub(crate) fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether stdout is to be coloured.
pub(super) fn stdout_is_colored() -> bool {
    std::io::stdout().is_terminal() && wanted()
}
