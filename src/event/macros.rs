/// Declares an enum of the sender's words, with `Other` for those that are not known here.
macro_rules! open_set {
    ($(#[$docs:meta])* pub enum $name:ident {
        $($(#[$more:meta])* $variant:ident = $word:literal $(| $also:literal)*,)*
    }) => {
        $(#[$docs])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(
                #[doc = concat!("`", $word, "`" $(, ", also spelt `", $also, "`")*, ".")]
                $(#[$more])*
                $variant,
            )*
            /// Any other, as it was sent.
            Other(Box<str>),
        }

        impl $name {
            /// Returns the sender's spelling; of two, the first that the variant names.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($word $(| $also)* => Self::$variant,)*
                    other => Self::Other(other.into()),
                }
            }
        }
    };
}

/// Declares an object of which every member may be missing, and is `None` if it is of another type.
macro_rules! object {
    ($(#[$docs:meta])* pub struct $name:ident {
        $($(#[$member:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$docs])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(default)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[$member])*
                #[serde(deserialize_with = "crate::event::lenient::member")]
                pub $field: $type,
            )*
        }

        impl<'de> crate::event::lenient::Member<'de> for Option<$name> {
            fn read(json: &'de serde_json::value::RawValue) -> serde_json::Result<Self> {
                crate::event::lenient::members(json.get())
            }
        }
    };
}
