//! Pages of entities: how many, from where, with which tags.

use super::Store;
use crate::entity::Entity;
use crate::error::{Code, Error};
use crate::kind::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use plugin::Id;
use std::sync::Arc;

const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = model::limits::ADMIN_PAGE_ENTITIES_MAX;
const TAGS_MAX: usize = 5;

/// What a page is to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageQuery {
    /// Entities of a page.
    pub size: usize,
    /// The last entity of the page before.
    pub after: Option<Id>,
    /// Which entities.
    pub tags: Tags,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { size: SIZE_DEFAULT, after: None, tags: Tags::Any(Vec::new()) }
    }
}

/// A filter by tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tags {
    /// Entities with all of these.
    All(Vec<String>),
    /// Entities with at least one of these; without any, every entity.
    Any(Vec<String>),
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its entities.
    pub data: Vec<Arc<Entity>>,
    /// Where the next one begins, for the query parameter `offset`, if there is one.
    pub offset: Option<String>,
}

impl PageQuery {
    /// Reads the query parameters `size`, `offset` and `tags`.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn parse(size: Option<&str>, offset: Option<&str>, tags: Option<&str>) -> Result<Self, Error> {
        let size = match size {
            None => SIZE_DEFAULT,
            Some(text) => {
                let number: f64 = text.parse().map_err(|_| Error::new(Code::InvalidSize, "size must be a number"))?;
                let whole = (1..=SIZE_MAX).find(|size| *size as f64 == number);
                let message = || format!("size must be an integer between 1 and {SIZE_MAX}");
                whole.ok_or_else(|| Error::new(Code::InvalidSize, message()))?
            }
        };
        let after = offset.map(read_offset).transpose()?;
        Ok(Self { size, after, tags: Tags::parse(tags)? })
    }
}

fn read_offset(text: &str) -> Result<Id, Error> {
    let bytes = STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| Error::invalid_offset(text, "bad base64 encoding"))?;
    let ids: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|_| Error::invalid_offset(text, "bad json encoding"))?;
    let id = ids.first().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::invalid_offset(text, "bad json encoding"))
}

impl Tags {
    fn parse(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text else { return Ok(Self::Any(Vec::new())) };
        if text.is_empty() {
            return Err(Error::invalid_option("tags", "cannot be null"));
        }
        let known = |c: char| matches!(c, ' '..='~') || !c.is_ascii();
        if (text.contains(',') && text.contains('/')) || !text.chars().all(known) {
            return Err(Error::invalid_option("tags", "invalid filter syntax"));
        }
        let separator = if text.contains('/') { '/' } else { ',' };
        let trimmed = text.strip_suffix(separator).unwrap_or(text);
        let tags: Vec<String> = trimmed.split(separator).map(str::to_owned).collect();
        if tags.iter().any(String::is_empty) {
            return Err(Error::invalid_option("tags", "invalid filter syntax"));
        }
        if tags.len() > TAGS_MAX {
            return Err(Error::invalid_option("tags", "cannot query more than 5 tags"));
        }
        Ok(if separator == '/' { Self::Any(tags) } else { Self::All(tags) })
    }

    fn fit(&self, entity: &Entity) -> bool {
        match self {
            Self::All(tags) => tags.iter().all(|tag| entity.has_tag(tag)),
            Self::Any(tags) => tags.is_empty() || tags.iter().any(|tag| entity.has_tag(tag)),
        }
    }
}

impl Store {
    /// A page of the entities of a kind.
    #[must_use]
    pub fn page(&self, kind: Kind, query: &PageQuery) -> Page {
        let table = &self.table(kind).entities;
        match &query.after {
            None => take(table.iter().map(|(_, entity)| entity), query),
            Some(after) => take(table.after(after).map(|(_, entity)| entity), query),
        }
    }

    /// A page of the entities of a kind whose reference in `field` is to `parent`.
    #[must_use]
    pub fn page_of(&self, kind: Kind, field: &str, parent: Id, query: &PageQuery) -> Page {
        take(self.links(kind, field, parent, query.after).filter_map(|link| self.get(kind, link.from)), query)
    }
}

fn take<'s>(all: impl Iterator<Item = &'s Arc<Entity>>, query: &PageQuery) -> Page {
    let mut fitting = all.filter(|entity| query.tags.fit(entity));
    let data: Vec<Arc<Entity>> = fitting.by_ref().take(query.size).cloned().collect();
    let more = fitting.next().is_some();
    let offset = data.last().filter(|_| more).map(|last| STANDARD_NO_PAD.encode(format!("[\"{}\"]", last.id())));
    Page { data, offset }
}
