//! Names of collections and aliases.
//!
//! A generation is the collection `<catalogue>-<id>`; the alias `<catalogue>` points to the one that serves. The alias
//! `<catalogue>~<id>` points to it, too, and names which publication that was: see [`super::build`].

use chrono::Utc;
use vitrine_core::product::CatalogName;

/// Bytes of a generation's id, such as `20260101T000000000Z-0123abcd`.
const ID_LENGTH: usize = 28;

/// A name that no other generation has, later ones after earlier ones: the time, and what tells two loaders apart.
pub(super) fn new_generation_id() -> String {
    format!("{}-{:08x}", Utc::now().format("%Y%m%dT%H%M%S%3fZ"), fastrand::u32(..))
}

/// The collection of a generation.
pub(super) fn collection(catalog: &CatalogName, id: &str) -> String {
    format!("{catalog}-{id}")
}

/// The generation whose collection is called so, if it may be one of this catalogue.
pub(super) fn generation_id<'a>(catalog: &CatalogName, collection: &'a str) -> Option<&'a str> {
    let id = collection.strip_prefix(catalog.as_str())?.strip_prefix('-')?;
    // No name of a catalogue has capitals, so `a-b-<id>` is never of `a`.
    let (time, loader) = id.split_once('-')?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let is_loader = loader.len() == 8 && loader.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits(day, 8) && digits(clock, 9) && is_loader).then_some(id)
}

/// The catalogue and the generation whose collection may be called so.
pub(super) fn catalog_and_id(collection: &str) -> Option<(CatalogName, &str)> {
    let (catalog, _) = collection.split_at_checked(collection.len().checked_sub(ID_LENGTH + 1)?)?;
    let catalog = CatalogName::new(catalog).ok().filter(|name| name.as_str() == catalog)?;
    let id = generation_id(&catalog, collection)?;
    Some((catalog, id))
}

/// The alias that names a publication.
pub(super) fn publication(catalog: &CatalogName, id: &str) -> String {
    format!("{catalog}~{id}")
}

/// Whether the alias names a publication of this catalogue.
pub(super) fn is_publication(catalog: &CatalogName, alias: &str) -> bool {
    alias.strip_prefix(catalog.as_str()).is_some_and(|rest| rest.starts_with('~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_belongs_to_the_catalogue_that_named_it_and_to_no_other() {
        let (shop, other) = (CatalogName::new("shop").unwrap(), CatalogName::new("shop-eu").unwrap());
        let id = new_generation_id();
        assert_eq!(generation_id(&shop, &collection(&shop, &id)), Some(id.as_str()));
        assert_eq!(generation_id(&other, &collection(&other, &id)), Some(id.as_str()));
        assert_eq!(catalog_and_id(&collection(&other, &id)), Some((other.clone(), id.as_str())));
        assert_eq!(generation_id(&shop, &collection(&other, &id)), None);
        assert_eq!(generation_id(&other, &collection(&shop, &id)), None);
        for name in ["shop", "shop-", "shop-products", "shop-2026", "shop-20260101T000000000Z", "shopping"] {
            assert_eq!((generation_id(&shop, name), catalog_and_id(name)), (None, None), "{name}");
        }
    }

    #[test]
    fn later_generations_sort_after_earlier_ones_and_no_two_are_called_the_same() {
        let ids: Vec<_> = (0..3).map(|_| new_generation_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1] && pair[0][..19] <= pair[1][..19]), "{ids:?}");
    }

    #[test]
    fn no_alias_is_both_a_catalogue_and_a_publication() {
        let shop = CatalogName::new("shop").unwrap();
        let alias = publication(&shop, "1");
        assert!(is_publication(&shop, &alias) && CatalogName::new(&alias).is_err());
        assert!(!is_publication(&shop, "shop") && !is_publication(&shop, "shopping~1"));
    }
}
