//! The envelope of a list (`api-conventions.md` §5).

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::document::Urls;
use crate::filter::Query;
use crate::output::Document;
use crate::row::Object;
use crate::schemas::Schema;

/// A list as it is sent. The constructors fill in what follows from the request; fields can be changed after that.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    pub resource_type: String,
    pub links: Object,
    pub create_types: Object,
    pub data: Vec<Document>,
    pub sort_links: Object,
    /// Null for lists that are not read from one table.
    pub pagination: Value,
    pub sort: Value,
    pub filters: Object,
    pub create_defaults: Object,
}

/// The request a list answers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// URL without its query.
    pub url: &'a str,
    /// Query parameters, percent-decoded, in their order.
    pub pairs: &'a [(String, String)],
}

impl Collection {
    /// A list that knows neither filters nor pages: schemas, projects, identities.
    pub fn plain(resource_type: &str, url: &str, data: Vec<Document>) -> Collection {
        let mut links = Object::new();
        links.insert("self".into(), url.into());
        Collection {
            resource_type: resource_type.to_owned(),
            links,
            create_types: Object::new(),
            data,
            sort_links: Object::new(),
            pagination: Value::Null,
            sort: Value::Null,
            filters: Object::new(),
            create_defaults: Object::new(),
        }
    }

    /// The list behind a child link: filters are named but never applied, and there are no pages.
    pub fn linked(schema: &Schema, request: Request<'_>, data: Vec<Document>) -> Collection {
        let mut collection = Collection::plain(schema.name, request.url, data);
        collection.sort_links = sort_links(schema, request);
        collection.filters = schema.filters.keys().map(|name| ((*name).to_owned(), Value::Null)).collect();
        collection
    }

    /// A page of a table. `next` is the offset of the next page, if there is one.
    pub fn page(
        schema: &Schema,
        urls: &dyn Urls,
        request: Request<'_>,
        query: &Query,
        next: Option<u64>,
        data: Vec<Document>,
    ) -> Collection {
        let mut collection = Collection::linked(schema, request, data);
        collection.create_types = schema
            .create_types
            .iter()
            .map(|(name, plural)| ((*name).to_owned(), urls.collection(plural).into()))
            .collect();
        for (name, modifier, value) in &query.applied {
            let slot = collection.filters.entry(*name).or_insert(Value::Null);
            let condition = json!({ "value": value, "modifier": modifier });
            match slot {
                Value::Array(conditions) => conditions.push(condition),
                _ => *slot = json!([condition]),
            }
        }
        let next_url = next.map(|offset| with(request, &["marker"], &[("marker", &format!("m{offset}"))]));
        collection.pagination = json!({
            "first": null, "previous": null, "next": next_url, "limit": query.limit, "total": null,
            "partial": next.is_some(),
        });
        if let Some(sort) = &query.sort {
            let (order, reverse) = if sort.descending { ("desc", "asc") } else { ("asc", "desc") };
            let reverse = with(request, &["order"], &[("order", reverse)]);
            collection.sort = json!({ "name": sort.field, "order": order, "reverse": reverse });
        }
        collection
    }
}

fn sort_links(schema: &Schema, request: Request<'_>) -> Object {
    schema
        .filters
        .keys()
        .map(|name| ((*name).to_owned(), with(request, &["sort", "order"], &[("sort", name)]).into()))
        .collect()
}

/// The request's URL and query without some parameters, and with others at the end.
fn with(request: Request<'_>, without: &[&str], added: &[(&str, &str)]) -> String {
    let kept = request.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = kept.filter(|(name, _)| !without.contains(name));
    let mut url = request.url.to_owned();
    let mut separator = '?';
    for (name, value) in kept.chain(added.iter().copied()) {
        url.push(separator);
        encode(name, &mut url);
        url.push('=');
        encode(value, &mut url);
        separator = '&';
    }
    url
}

/// Percent-encodes everything that is not unreserved in RFC 3986.
fn encode(text: &str, url: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.push(HEX[usize::from(byte >> 4)]);
            url.push(HEX[usize::from(byte & 15)]);
        }
    }
}

impl Serialize for Collection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(11))?;
        map.serialize_entry("type", "collection")?;
        map.serialize_entry("resourceType", &self.resource_type)?;
        map.serialize_entry("links", &self.links)?;
        map.serialize_entry("createTypes", &self.create_types)?;
        map.serialize_entry("actions", &Object::new())?;
        map.serialize_entry("data", &self.data)?;
        map.serialize_entry("sortLinks", &self.sort_links)?;
        map.serialize_entry("pagination", &self.pagination)?;
        map.serialize_entry("sort", &self.sort)?;
        map.serialize_entry("filters", &self.filters)?;
        map.serialize_entry("createDefaults", &self.create_defaults)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::filter;
    use crate::testing::{Plain, registry};

    #[test]
    fn a_page_says_how_it_was_made_and_what_comes_next() {
        let registry = registry();
        let schema = registry.schemas(Role::Project).get("horse").expect("visible");
        let pairs: Vec<(String, String)> = [("name_like", "b &%"), ("sort", "name"), ("limit", "2"), ("marker", "m2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let request = Request { url: "http://h/v1/horses", pairs: &pairs };
        let query = filter::parse(schema, &pairs);
        let page = Collection::page(schema, &Plain, request, &query, Some(4), Vec::new());
        let shown: Value = serde_json::to_value(&page).expect("JSON");
        assert_eq!(shown["createTypes"], json!({ "horse": "http://h/v1/horses", "pony": "http://h/v1/ponies" }));
        assert_eq!(shown["links"], json!({ "self": "http://h/v1/horses" }));
        assert_eq!(shown["filters"]["name"], json!([{ "value": "b &%", "modifier": "like" }]));
        assert_eq!(shown["filters"]["age"], Value::Null);
        assert_eq!(
            shown["pagination"],
            json!({
                "first": null, "previous": null, "limit": 2, "total": null, "partial": true,
                "next": "http://h/v1/horses?name_like=b%20%26%25&sort=name&limit=2&marker=m4",
            })
        );
        assert_eq!(shown["sort"]["order"], json!("asc"));
        assert_eq!(
            shown["sort"]["reverse"],
            json!("http://h/v1/horses?name_like=b%20%26%25&sort=name&limit=2&marker=m2&order=desc")
        );
        assert_eq!(
            shown["sortLinks"]["age"],
            json!("http://h/v1/horses?name_like=b%20%26%25&limit=2&marker=m2&sort=age")
        );
        let linked = serde_json::to_value(Collection::linked(schema, request, Vec::new())).expect("JSON");
        assert_eq!((&linked["pagination"], &linked["filters"]["name"]), (&Value::Null, &Value::Null));
    }
}
