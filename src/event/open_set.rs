/// Declares an enum of the sender's words, with [`Other`](Unit::Other) for those not known here.
///
/// [`Unit`]: super::Unit
macro_rules! open_set {
    ($(#[$docs:meta])* $name:ident {
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
