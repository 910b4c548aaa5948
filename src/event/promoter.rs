use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

use super::{
    Amount, PromoterId, Reward, Secret, Timestamp, Unit,
    lenient::{self, Scalar},
};

/// Who earned a fulfilment: the part of `data.promoter` that a handler needs.
///
/// `Debug` shows the id and whether the rest is there, not what it is.
///
/// ```
/// use tower_firstpromoter::event::Fulfilment;
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": "user-7", "email": "" } }
/// }"#)?;
/// let promoter = fulfilment.promoter;
/// assert_eq!((promoter.cust_id.as_deref(), promoter.email.as_deref()), (Some("user-7"), None));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promoter {
    /// FirstPromoter's id of the promoter.
    pub id: PromoterId,
    /// The promoter's e-mail address.
    pub email: Option<String>,
    /// *Your own* id of this user, if FirstPromoter knows it. `""`, which it sends otherwise, is
    /// `None`, and so never matches a row by accident.
    pub cust_id: Option<String>,
}

impl fmt::Debug for Promoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |text: &String| Secret::from(text.as_str());
        f.debug_struct("Promoter")
            .field("id", &self.id)
            .field("email", &self.email.as_ref().map(hidden))
            .field("cust_id", &self.cust_id.as_ref().map(hidden))
            .finish()
    }
}

/// The members of `data.promoter` beyond [`Promoter`], decoded by
/// [`Fulfilment::details`](super::Fulfilment::details), whose page has an example.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PromoterDetails {
    /// `active`, `pending`, `blocked` and others; absent in old payloads.
    #[serde(deserialize_with = "lenient::scalar")]
    pub status: Option<String>,
    /// When the promoter signed up.
    #[serde(deserialize_with = "lenient::scalar")]
    pub created_at: Option<Timestamp>,
    /// A password for the promoter's dashboard, in clear text.
    #[serde(deserialize_with = "lenient::scalar")]
    pub temp_password: Option<Secret>,
    /// A token that logs in to the promoter's dashboard.
    #[serde(deserialize_with = "lenient::scalar")]
    pub auth_token: Option<Secret>,
    /// The promotion used where none is named.
    #[serde(deserialize_with = "lenient::scalar")]
    pub default_promotion_id: Option<u64>,
    /// The promoter's parent referral id. Such ids are often made of names.
    #[serde(deserialize_with = "lenient::scalar")]
    pub pref: Option<Secret>,
    /// The referral id used where none is named.
    #[serde(deserialize_with = "lenient::scalar")]
    pub default_ref_id: Option<Secret>,
    /// Free text about the promoter.
    #[serde(deserialize_with = "lenient::scalar")]
    pub note: Option<Secret>,
    /// A tax form.
    #[serde(deserialize_with = "lenient::scalar")]
    pub w8_form_url: Option<Secret>,
    /// A tax form.
    #[serde(deserialize_with = "lenient::scalar")]
    pub w9_form_url: Option<Secret>,
    /// Who recruited the promoter.
    #[serde(deserialize_with = "lenient::scalar")]
    pub parent_promoter_id: Option<u64>,
    /// All that was earned so far.
    #[serde(deserialize_with = "lenient::object")]
    pub earnings_balance: Option<Balances>,
    /// What is open now.
    #[serde(deserialize_with = "lenient::object")]
    pub current_balance: Option<Balances>,
    /// What was paid out.
    #[serde(deserialize_with = "lenient::object")]
    pub paid_balance: Option<Balances>,
    /// What waits for approval.
    #[serde(deserialize_with = "lenient::object")]
    pub pending_balance: Option<Balances>,
    /// Name, address and the like.
    #[serde(deserialize_with = "lenient::object")]
    pub profile: Option<Profile>,
    /// The promoter's campaigns; the list has no bound.
    #[serde(deserialize_with = "promotions")]
    pub promotions: Vec<Promotion>,
}

/// A balance for each unit. Values may be negative; the application's own books decide.
///
/// ```
/// use tower_firstpromoter::event::{Balances, Unit};
///
/// let balances: Balances = serde_json::from_str(r#"{"credits": -150.5, "cash": 882}"#)?;
/// assert_eq!(balances.get(&Unit::Credits).unwrap().to_string(), "-150.5");
/// assert_eq!(balances.get(&Unit::Points), None);
/// let units: Vec<&str> = balances.iter().map(|(unit, _)| unit).collect();
/// assert_eq!(units, ["cash", "credits"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<Box<str>, Amount>);

impl Balances {
    /// Returns the balance in this unit, if the sender named it.
    pub fn get(&self, unit: &Unit) -> Option<Amount> {
        self.0.get(unit.as_str()).copied()
    }

    /// Iterates over the balances, sorted by the sender's name of the unit.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.0.iter().map(|(unit, amount)| (&**unit, *amount))
    }
}

impl<'de> Deserialize<'de> for Balances {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let balances = BTreeMap::<Box<str>, Scalar<'de>>::deserialize(input)?;
        let known = |(unit, balance)| Some((unit, Option::from(balance)?));
        Ok(Self(balances.into_iter().filter_map(known).collect()))
    }
}

/// `promoter.profile`. All of its texts are personal, so each is a [`Secret`].
///
/// ```
/// use tower_firstpromoter::event::Profile;
///
/// let profile: Profile = serde_json::from_str(r#"{"first_name": "Ann", "last_name": ""}"#)?;
/// assert_eq!(profile.first_name.as_ref().map(|name| name.expose()), Some("Ann"));
/// assert!(!format!("{profile:?}").contains("Ann"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Profile {
    /// The profile's id.
    #[serde(deserialize_with = "lenient::scalar")]
    pub id: Option<u64>,
    /// Given name.
    #[serde(deserialize_with = "lenient::scalar")]
    pub first_name: Option<Secret>,
    /// Family name.
    #[serde(deserialize_with = "lenient::scalar")]
    pub last_name: Option<Secret>,
    /// Website.
    #[serde(deserialize_with = "lenient::scalar")]
    pub website: Option<Secret>,
    /// Company.
    #[serde(deserialize_with = "lenient::scalar")]
    pub company_name: Option<Secret>,
    /// Telephone number.
    #[serde(deserialize_with = "lenient::scalar")]
    pub phone_number: Option<Secret>,
    /// Postal address; may hold line breaks.
    #[serde(deserialize_with = "lenient::scalar")]
    pub address: Option<Secret>,
    /// VAT id.
    #[serde(deserialize_with = "lenient::scalar")]
    pub vat_id: Option<Secret>,
    /// Country.
    #[serde(deserialize_with = "lenient::scalar")]
    pub country: Option<Secret>,
    /// PayPal address.
    #[serde(deserialize_with = "lenient::scalar")]
    pub paypal_email: Option<Secret>,
    /// Picture.
    #[serde(deserialize_with = "lenient::scalar")]
    pub avatar_url: Option<Secret>,
    /// Free text.
    #[serde(deserialize_with = "lenient::scalar")]
    pub description: Option<Secret>,
    /// Pages on other sites, by the sender's name of the site; sites without a page are left out.
    #[serde(deserialize_with = "social_accounts")]
    pub social_accounts: BTreeMap<String, Secret>,
}

/// A promoter's membership in one campaign.
///
/// ```
/// use tower_firstpromoter::event::PromoterDetails;
///
/// fn campaigns(promoter: &PromoterDetails) -> Vec<u64> {
///     promoter.promotions.iter().filter_map(|promotion| promotion.campaign_id).collect()
/// }
/// # let promoter: PromoterDetails = serde_json::from_str(r#"{"promotions":[{"campaign_id":7},null]}"#)?;
/// # assert_eq!(campaigns(&promoter), [7]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Promotion {
    /// The promotion's id.
    #[serde(deserialize_with = "lenient::scalar")]
    pub id: Option<u64>,
    /// `offer_running`, `offer_inactive` and others.
    #[serde(deserialize_with = "lenient::scalar")]
    pub status: Option<String>,
    /// The referral id in the promoter's link.
    #[serde(deserialize_with = "lenient::scalar")]
    pub ref_id: Option<Secret>,
    /// The coupon given to referred customers.
    #[serde(deserialize_with = "lenient::scalar")]
    pub promo_code: Option<Secret>,
    /// Which campaign.
    #[serde(deserialize_with = "lenient::scalar")]
    pub campaign_id: Option<u64>,
    /// The campaign's name.
    #[serde(deserialize_with = "lenient::scalar")]
    pub campaign_name: Option<String>,
    /// The promoter's link.
    #[serde(deserialize_with = "lenient::scalar")]
    pub referral_link: Option<Secret>,
    /// When the target was reached.
    #[serde(deserialize_with = "lenient::scalar")]
    pub target_reached_at: Option<Timestamp>,
    /// The rule per referral that holds for this promoter.
    #[serde(deserialize_with = "lenient::object")]
    pub current_referral_reward: Option<Reward>,
    /// The rule per promotion that holds for this promoter.
    #[serde(deserialize_with = "lenient::object")]
    pub current_promotion_reward: Option<Reward>,
    /// The rule per target that holds for this promoter.
    #[serde(deserialize_with = "lenient::object")]
    pub current_target_reward: Option<Reward>,
}

fn promotions<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Promotion>, D::Error> {
    let list = <&RawValue>::deserialize(input)?.get();
    let list: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    let promotions = list.into_iter().filter_map(|one| lenient::members(one.get()).transpose());
    promotions.collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn social_accounts<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<BTreeMap<String, Secret>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Account {
        #[serde(deserialize_with = "lenient::scalar")]
        url: Option<Secret>,
    }
    let mut found = BTreeMap::new();
    let accounts: Option<BTreeMap<String, &RawValue>> = lenient::object(input)?;
    for (site, account) in accounts.into_iter().flatten() {
        let account = lenient::members::<Account>(account.get()).map_err(D::Error::custom)?;
        found.extend(account.and_then(|account| Some((site, account.url?))));
    }
    Ok(found)
}
