//! Books as an image and back.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serializer};

use super::books::Books;
use super::view::RowSum;
use crate::attic::Workroom;
use crate::image::{self, Stale};
use crate::time::Day;

/// The rows of the restated view of each day, where they were asked for.
pub(super) type Views = BTreeMap<Day, OnceLock<RowSum>>;

impl Books {
    /// Whether everything that was filed is judged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.facts.families.is_touched()
            && self.facts.dirty_logs.is_empty()
            && self.facts.hub_decided.is_empty()
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.facts.pack();
        self.outcomes.pack();
    }

    /// The image of the books.
    #[must_use]
    pub fn image(&mut self) -> Vec<u8> {
        self.pack();
        image::write(self)
    }

    /// The books of an image whose pieces are in the attic of a room.
    ///
    /// # Errors
    /// It is none, or its pieces are gone.
    pub fn of_image(bytes: &[u8], room: &Workroom) -> Result<Self, Stale> {
        image::read(bytes, room)
    }
}

pub(super) fn write_views<S: Serializer>(views: &Views, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(views.iter().map(|(day, view)| (day, view.get())))
}

pub(super) fn read_views<'de, D: Deserializer<'de>>(from: D) -> Result<Views, D::Error> {
    let views = BTreeMap::<Day, Option<RowSum>>::deserialize(from)?;
    let view = |view: Option<RowSum>| view.map_or_else(OnceLock::new, OnceLock::from);
    Ok(views.into_iter().map(|(day, known)| (day, view(known))).collect())
}
