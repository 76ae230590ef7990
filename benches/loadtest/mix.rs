//! Kinds of query, and how often each is sent.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// Highest weight of a kind.
const WEIGHT_MAX: u32 = 1000;

/// A kind of query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A picture.
    Photo,
    /// A text.
    Text,
    /// A picture or text of a small set, which the caches may answer.
    Repeat,
    /// A text with a filter.
    Filtered,
    /// A batch of pictures to embed, as a job sends them: for nobody who waits.
    Bulk,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] = [Self::Photo, Self::Text, Self::Repeat, Self::Filtered, Self::Bulk];

    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Text => "text",
            Self::Repeat => "repeat",
            Self::Filtered => "filtered",
            Self::Bulk => "bulk",
        }
    }

    /// The method that is asked.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Photo | Self::Text | Self::Repeat | Self::Filtered => Method::Search,
            Self::Bulk => Method::Embed,
        }
    }

    /// Its weight in the default mix.
    fn weight_default(self) -> u32 {
        match self {
            Self::Photo => 4,
            Self::Text => 3,
            Self::Repeat => 2,
            Self::Filtered => 1,
            // Only where it is asked for: beside it, everything else is slower.
            Self::Bulk => 0,
        }
    }
}

/// A method of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// `RecommendationService.Search`
    Search,
    /// `EmbeddingService.Embed`
    Embed,
}

/// Kinds of query with their weights: at least one, none of weight 0, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mix(Vec<(Kind, u32)>);

impl Mix {
    /// The default weights of those kinds that can be sent; nothing if none can.
    pub(crate) fn of(possible: impl Fn(Kind) -> bool) -> Option<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.weight_default() > 0 && possible(*kind));
        let weights: Vec<_> = kinds.map(|kind| (kind, kind.weight_default())).collect();
        (!weights.is_empty()).then_some(Self(weights))
    }

    /// The kinds that are sent.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().map(|(kind, _)| *kind)
    }

    /// Sum of the weights.
    pub(crate) fn total(&self) -> u32 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }

    /// The kind at a place of `0..total`, each kind having as many places as it weighs.
    pub(crate) fn kind_at(&self, place: u32) -> Option<Kind> {
        let mut end = 0;
        self.0.iter().find_map(|(kind, weight)| {
            end += weight;
            (place < end).then_some(*kind)
        })
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights: Vec<(Kind, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KIND=WEIGHT"))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            let kind = kind.ok_or_else(|| format!("`{name}` is none of {}", Kind::ALL.map(Kind::name).join(", ")))?;
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let weight =
                weight.ok_or_else(|| format!("the weight of {name} is not a number from 0 to {WEIGHT_MAX}"))?;
            if weights.iter().any(|(other, _)| *other == kind) {
                return Err(format!("{name} is there twice"));
            }
            weights.push((kind, weight));
        }
        weights.retain(|(_, weight)| *weight > 0);
        if weights.is_empty() { Err("no kind has a weight above 0".to_owned()) } else { Ok(Self(weights)) }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (kind, weight)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_as_many_places_as_it_weighs() {
        let mix: Mix = "photo=2,filtered=0, repeat=1".parse().unwrap();
        let places: Vec<_> = (0..=mix.total()).map(|place| mix.kind_at(place)).collect();
        assert_eq!(places, [Some(Kind::Photo), Some(Kind::Photo), Some(Kind::Repeat), None]);
        assert_eq!(mix.to_string(), "photo=2,repeat=1");
    }

    #[test]
    fn what_is_no_mix_is_refused_by_name() {
        for (text, problem) in [
            ("", "is not KIND=WEIGHT"),
            ("photo", "`photo` is not KIND=WEIGHT"),
            ("photos=1", "`photos` is none of"),
            ("photo=-1", "weight of photo is not a number from 0 to 1000"),
            ("photo=1001", "weight of photo is not a number from 0 to 1000"),
            ("photo=1,photo=2", "photo is there twice"),
            ("photo=0,text=0", "no kind has a weight above 0"),
        ] {
            let refusal = text.parse::<Mix>().unwrap_err();
            assert!(refusal.contains(problem), "{text}: {refusal}");
        }
    }

    #[test]
    fn the_default_mix_has_only_kinds_that_can_be_sent() {
        let mix = Mix::of(|kind| kind != Kind::Filtered && kind != Kind::Photo).unwrap();
        assert_eq!(mix.to_string(), "text=3,repeat=2");
        assert_eq!(Mix::of(|kind| kind == Kind::Bulk), None);
    }
}
