use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    Amount, PromoterId, Reward, Secret, Timestamp, Unit,
    lenient::{Member, Scalar, member, members},
};

/// The promoter who earned a fulfilment: the part of `data.promoter` that a handler needs.
///
/// `Debug` shows the id and whether the rest is there, not what it is.
/// [`Fulfilment`](super::Fulfilment) has an example.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promoter {
    /// FirstPromoter's id of the promoter.
    pub id: PromoterId,
    /// The promoter's e-mail address.
    pub email: Option<String>,
    /// *Your own* id of this user, if FirstPromoter knows it. `""`, which it sends otherwise, reads
    /// as `None`, so that it never matches a row by accident.
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

object! {
    /// The members of `data.promoter` beyond [`Promoter`], decoded by
    /// [`Fulfilment::details`](super::Fulfilment::details), which has an example.
    pub struct PromoterDetails {
        /// `active`, `pending`, `blocked` and others; absent in old payloads.
        pub status: Option<String>,
        /// When the promoter signed up.
        pub created_at: Option<Timestamp>,
        /// A password for the promoter's dashboard, in clear text.
        pub temp_password: Option<Secret>,
        /// A token that logs in to the promoter's dashboard.
        pub auth_token: Option<Secret>,
        /// The promotion used where none is named.
        pub default_promotion_id: Option<u64>,
        /// The promoter's parent referral id. Such ids are often made of names.
        pub pref: Option<Secret>,
        /// The referral id used where none is named.
        pub default_ref_id: Option<Secret>,
        /// Free text about the promoter.
        pub note: Option<Secret>,
        /// A tax form.
        pub w8_form_url: Option<Secret>,
        /// A tax form.
        pub w9_form_url: Option<Secret>,
        /// Who recruited the promoter.
        pub parent_promoter_id: Option<u64>,
        /// All that was earned so far.
        pub earnings_balance: Option<Balances>,
        /// What is open now.
        pub current_balance: Option<Balances>,
        /// What was paid out.
        pub paid_balance: Option<Balances>,
        /// What waits for approval.
        pub pending_balance: Option<Balances>,
        /// Name, address and the like.
        pub profile: Option<Profile>,
        /// The promoter's campaigns; the list has no bound.
        pub promotions: Vec<Promotion>,
    }
}

/// A balance for each unit. Values may be negative; rely on the application's own records instead.
/// [`Fulfilment::details`](super::Fulfilment::details) has an example.
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

object! {
    /// `promoter.profile`. All of its texts are personal, so each is a [`Secret`].
    /// [`Fulfilment::details`](super::Fulfilment::details) has an example.
    pub struct Profile {
        /// The profile's id.
        pub id: Option<u64>,
        /// Given name.
        pub first_name: Option<Secret>,
        /// Family name.
        pub last_name: Option<Secret>,
        /// Website.
        pub website: Option<Secret>,
        /// Company.
        pub company_name: Option<Secret>,
        /// Telephone number.
        pub phone_number: Option<Secret>,
        /// Postal address; may hold line breaks.
        pub address: Option<Secret>,
        /// VAT id.
        pub vat_id: Option<Secret>,
        /// Country.
        pub country: Option<Secret>,
        /// PayPal address.
        pub paypal_email: Option<Secret>,
        /// Picture.
        pub avatar_url: Option<Secret>,
        /// Free text.
        pub description: Option<Secret>,
        /// Pages on other sites, by the sender's name of the site; sites without a page are left out.
        pub social_accounts: BTreeMap<String, Secret>,
    }
}

object! {
    /// A promoter's membership in one campaign, in [`PromoterDetails::promotions`].
    pub struct Promotion {
        /// The promotion's id.
        pub id: Option<u64>,
        /// `offer_running`, `offer_inactive` and others.
        pub status: Option<String>,
        /// The referral id in the promoter's link.
        pub ref_id: Option<Secret>,
        /// The coupon given to referred customers.
        pub promo_code: Option<Secret>,
        /// Which campaign.
        pub campaign_id: Option<u64>,
        /// The campaign's name.
        pub campaign_name: Option<String>,
        /// The promoter's link.
        pub referral_link: Option<Secret>,
        /// When the target was reached.
        pub target_reached_at: Option<Timestamp>,
        /// The rule per referral that holds for this promoter.
        pub current_referral_reward: Option<Reward>,
        /// The rule per promotion that holds for this promoter.
        pub current_promotion_reward: Option<Reward>,
        /// The rule per target that holds for this promoter.
        pub current_target_reward: Option<Reward>,
    }
}

impl<'de> Member<'de> for PromoterDetails {
    fn read(json: &'de RawValue) -> serde_json::Result<Self> {
        Ok(Option::read(json)?.unwrap_or_default())
    }
}

impl<'de> Member<'de> for Option<Balances> {
    fn read(json: &'de RawValue) -> serde_json::Result<Self> {
        members(json.get())
    }
}

impl<'de> Member<'de> for Vec<Promotion> {
    fn read(json: &'de RawValue) -> serde_json::Result<Self> {
        let list: Vec<&RawValue> = serde_json::from_str(json.get()).unwrap_or_default();
        list.into_iter().filter_map(|one| Option::read(one).transpose()).collect()
    }
}

impl<'de> Member<'de> for BTreeMap<String, Secret> {
    fn read(json: &'de RawValue) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Account {
            #[serde(default, deserialize_with = "member")]
            url: Option<Secret>,
        }
        let accounts: Option<BTreeMap<String, &RawValue>> = members(json.get())?;
        let mut pages = BTreeMap::new();
        for (site, account) in accounts.into_iter().flatten() {
            let account = members::<Account>(account.get())?;
            pages.extend(account.and_then(|account| Some((site, account.url?))));
        }
        Ok(pages)
    }
}
