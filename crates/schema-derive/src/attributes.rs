//! The attributes as values: what may stand in each, with errors that point at the word that is wrong.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Lit, LitInt, LitStr, Path, Token, parenthesized};

/// `#[resource(...)]`.
#[derive(Default)]
pub struct ResourceAttr {
    pub id: Option<LitStr>,
    pub parent: Option<LitStr>,
    pub table: Option<LitStr>,
    pub plural: Option<LitStr>,
    pub machine: Option<Path>,
    pub no_rows: bool,
    pub no_list: bool,
    pub access: Vec<(Ident, LitStr)>,
}

/// The flags inside `#[field(...)]` and inside the entries of `#[common(...)]`.
#[derive(Default)]
pub struct FieldAttr {
    pub flatten: bool,
    pub create: bool,
    pub update: bool,
    pub required: bool,
    pub nullable: bool,
    pub unique: bool,
    pub filter: bool,
    pub eq_filter: bool,
    pub hidden: bool,
    pub admin: bool,
    pub input_only: bool,
    pub schedules_update: bool,
    pub read_on_create_only: bool,
    pub no_max_length: bool,
    pub no_link: bool,
    pub ty: Option<LitStr>,
    pub options: Option<Vec<LitStr>>,
    pub default: Option<Lit>,
    pub min_length: Option<LitInt>,
    pub max_length: Option<LitInt>,
    pub min: Option<LitInt>,
    pub max: Option<LitInt>,
    pub valid_chars: Option<LitStr>,
    pub invalid_chars: Option<LitStr>,
    pub transform: Option<LitStr>,
    pub id_of: Option<LitStr>,
    pub roles: Vec<(Ident, LitStr)>,
}

/// `#[common(...)]`, all occurrences together.
#[derive(Default)]
pub struct CommonAttr {
    pub without: Vec<Ident>,
    pub hidden: Vec<Ident>,
    pub changed: Vec<(Ident, FieldAttr)>,
}

/// `#[action(name, input = "..", output = "..")]`.
pub struct ActionAttr {
    pub name: Ident,
    pub input: Option<LitStr>,
    pub output: Option<LitStr>,
}

/// `#[relation(name, kind(...), not_includeable)]`.
pub struct LinkAttr {
    pub name: Ident,
    pub kind: LinkKind,
    pub includeable: bool,
}

pub enum LinkKind {
    Reference { field: LitStr, to: LitStr },
    List { field: LitStr, to: LitStr },
    Children { of: LitStr, by: LitStr },
    Through { to: LitStr, through: LitStr, from: LitStr, via: LitStr },
    Computed,
}

/// One `name = "type"` of `#[extra_filters(...)]`.
pub struct ExtraFilter {
    pub name: Ident,
    pub ty: LitStr,
}

const TYPES: [&str; 9] = ["string", "password", "enum", "int", "float", "boolean", "date", "json", "blob"];

/// Whether the text is a type spelling of the wire.
pub fn check_type(ty: &LitStr) -> syn::Result<()> {
    fn good(text: &str) -> bool {
        for wrap in ["array[", "map[", "reference["] {
            if let Some(inner) = text.strip_prefix(wrap).and_then(|rest| rest.strip_suffix(']')) {
                return if wrap == "reference[" {
                    !inner.is_empty() && inner.chars().all(char::is_alphanumeric)
                } else {
                    good(inner)
                };
            }
        }
        TYPES.contains(&text) || (!text.is_empty() && text.chars().all(char::is_alphanumeric))
    }
    if good(&ty.value()) {
        return Ok(());
    }
    Err(syn::Error::new(
        ty.span(),
        format!(
            "`{}` is not a field type; known are {}, `array[..]`, `map[..]`, `reference[..]`",
            ty.value(),
            TYPES.join(", ")
        ),
    ))
}

fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn unknown(word: &Ident, known: &str) -> syn::Error {
    syn::Error::new(word.span(), format!("`{word}` is not known here; known are {known}"))
}

/// `word` or `word = value` entries separated by commas.
fn entries(
    input: ParseStream<'_>,
    mut entry: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    while !input.is_empty() {
        let word: Ident = input.call(syn::ext::IdentExt::parse_any)?;
        entry(&word, input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn idents(input: ParseStream<'_>) -> syn::Result<Vec<Ident>> {
    let content;
    parenthesized!(content in input);
    Ok(Punctuated::<Ident, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

/// `(role = "letters", ...)`.
fn letters(input: ParseStream<'_>) -> syn::Result<Vec<(Ident, LitStr)>> {
    const ROLES: [&str; 7] = ["project", "user", "admin", "service", "agent", "register", "token"];
    let content;
    parenthesized!(content in input);
    let mut found: Vec<(Ident, LitStr)> = Vec::new();
    entries(&content, |role, input| {
        if !ROLES.contains(&role.to_string().as_str()) {
            return Err(unknown(role, &ROLES.join(", ")));
        }
        if found.iter().any(|(named, _)| named == role) {
            return Err(syn::Error::new(role.span(), format!("`{role}` is named twice")));
        }
        let letters: LitStr = value(input)?;
        if letters.value().is_empty() || !letters.value().chars().all(|ch| "crud".contains(ch)) {
            return Err(syn::Error::new(letters.span(), "letters are some of `crud`"));
        }
        found.push((role.clone(), letters));
        Ok(())
    })?;
    Ok(found)
}

impl Parse for ResourceAttr {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attr = ResourceAttr::default();
        entries(input, |word, input| {
            match word.to_string().as_str() {
                "id" => attr.id = Some(value(input)?),
                "parent" => attr.parent = Some(value(input)?),
                "table" => attr.table = Some(value(input)?),
                "plural" => attr.plural = Some(value(input)?),
                "machine" => attr.machine = Some(value(input)?),
                "no_rows" => attr.no_rows = true,
                "access" => attr.access = letters(input)?,
                "no_list" => attr.no_list = true,
                _ => return Err(unknown(word, "id, parent, table, plural, machine, no_rows, no_list, access")),
            }
            Ok(())
        })?;
        Ok(attr)
    }
}

impl Parse for FieldAttr {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attr = FieldAttr::default();
        let mut n_words = 0;
        entries(input, |word, input| {
            n_words += 1;
            match word.to_string().as_str() {
                "flatten" => attr.flatten = true,
                "create" => attr.create = true,
                "update" => attr.update = true,
                "required" => attr.required = true,
                "nullable" => attr.nullable = true,
                "unique" => attr.unique = true,
                "filter" => attr.filter = true,
                "eq_filter" => attr.eq_filter = true,
                "hidden" => attr.hidden = true,
                "admin" => attr.admin = true,
                "input_only" => attr.input_only = true,
                "schedules_update" => attr.schedules_update = true,
                "read_on_create_only" => attr.read_on_create_only = true,
                "no_max_length" => attr.no_max_length = true,
                "no_link" => attr.no_link = true,
                "ty" => {
                    let ty = value(input)?;
                    check_type(&ty)?;
                    attr.ty = Some(ty);
                }
                "options" => {
                    input.parse::<Token![=]>()?;
                    let content;
                    syn::bracketed!(content in input);
                    let options = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
                    attr.options = Some(options.into_iter().collect());
                }
                "default" => attr.default = Some(value(input)?),
                "min_length" => attr.min_length = Some(value(input)?),
                "max_length" => attr.max_length = Some(value(input)?),
                "min" => attr.min = Some(value(input)?),
                "max" => attr.max = Some(value(input)?),
                "valid_chars" => attr.valid_chars = Some(value(input)?),
                "invalid_chars" => attr.invalid_chars = Some(value(input)?),
                "transform" => attr.transform = Some(value(input)?),
                "roles" => attr.roles = letters(input)?,
                "id_of" => attr.id_of = Some(value(input)?),
                _ => {
                    return Err(unknown(
                        word,
                        "flatten, create, update, required, nullable, unique, filter, eq_filter, hidden, admin, input_only, \
                         schedules_update, read_on_create_only, no_max_length, no_link, ty, options, default, \
                         min_length, max_length, min, max, valid_chars, invalid_chars, transform, id_of, roles(..)",
                    ));
                }
            }
            if attr.flatten && n_words > 1 {
                return Err(syn::Error::new(word.span(), "`flatten` stands alone: the part's own fields say the rest"));
            }
            if attr.hidden && attr.admin {
                return Err(syn::Error::new(word.span(), "a field is `hidden` or `admin`, not both"));
            }
            if attr.max_length.is_some() && attr.no_max_length {
                return Err(syn::Error::new(word.span(), "`max_length` and `no_max_length` contradict each other"));
            }
            Ok(())
        })?;
        Ok(attr)
    }
}

impl Parse for CommonAttr {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attr = CommonAttr::default();
        entries(input, |word, input| {
            match word.to_string().as_str() {
                "without" => attr.without.extend(idents(input)?),
                "hidden" => attr.hidden.extend(idents(input)?),
                "account_id" | "id" | "name" | "kind" | "description" | "uuid" => {
                    let content;
                    parenthesized!(content in input);
                    attr.changed.push((word.clone(), content.parse()?));
                }
                _ => {
                    return Err(unknown(
                        word,
                        "without(..), hidden(..), account_id(..), id(..), name(..), kind(..), description(..), uuid(..)",
                    ));
                }
            }
            Ok(())
        })?;
        Ok(attr)
    }
}

impl Parse for ActionAttr {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.call(syn::ext::IdentExt::parse_any)?;
        if name.to_string().chars().any(|ch| ch.is_ascii_uppercase() || ch == '_') {
            return Err(syn::Error::new(name.span(), "action names are lower-case words without separators"));
        }
        let mut attr = ActionAttr { name, input: None, output: None };
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        entries(input, |word, input| {
            match word.to_string().as_str() {
                "input" => attr.input = Some(value(input)?),
                "output" => attr.output = Some(value(input)?),
                _ => return Err(unknown(word, "input, output")),
            }
            Ok(())
        })?;
        Ok(attr)
    }
}

/// Named string parameters, all of them required: `(of = "x", by = "y")`.
fn parameters<const N: usize>(input: ParseStream<'_>, names: [&str; N], at: Span) -> syn::Result<[LitStr; N]> {
    let content;
    parenthesized!(content in input);
    let mut found: [Option<LitStr>; N] = [const { None }; N];
    entries(&content, |word, input| match names.iter().position(|name| word == name) {
        Some(idx) => {
            found[idx] = Some(value(input)?);
            Ok(())
        }
        None => Err(unknown(word, &names.join(", "))),
    })?;
    let missing: Vec<&str> =
        names.iter().zip(&found).filter(|(_, given)| given.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Err(syn::Error::new(at, format!("missing {}", missing.join(", "))));
    }
    Ok(found.map(|given| given.expect("checked above that none is missing")))
}

impl Parse for LinkAttr {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.call(syn::ext::IdentExt::parse_any)?;
        input.parse::<Token![,]>()?;
        let mut kind = None;
        let mut includeable = true;
        entries(input, |word, input| {
            let at = word.span();
            kind = Some(match word.to_string().as_str() {
                "reference" => {
                    let [field, to] = parameters(input, ["field", "to"], at)?;
                    LinkKind::Reference { field, to }
                }
                "list" => {
                    let [field, to] = parameters(input, ["field", "to"], at)?;
                    LinkKind::List { field, to }
                }
                "children" => {
                    let [of, by] = parameters(input, ["of", "by"], at)?;
                    LinkKind::Children { of, by }
                }
                "through" => {
                    let [to, through, from, via] = parameters(input, ["to", "through", "from", "via"], at)?;
                    LinkKind::Through { to, through, from, via }
                }
                "computed" => LinkKind::Computed,
                "not_includeable" => {
                    includeable = false;
                    return Ok(());
                }
                _ => {
                    return Err(unknown(
                        word,
                        "reference(..), list(..), children(..), through(..), computed, not_includeable",
                    ));
                }
            });
            Ok(())
        })?;
        let kind = kind.ok_or_else(|| syn::Error::new(name.span(), "a link says how it is followed"))?;
        let includeable = includeable && !matches!(kind, LinkKind::Computed);
        Ok(LinkAttr { name, kind, includeable })
    }
}

impl Parse for ExtraFilter {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.call(syn::ext::IdentExt::parse_any)?;
        let ty = value(input)?;
        check_type(&ty)?;
        Ok(ExtraFilter { name, ty })
    }
}

/// All attributes of that name, parsed.
pub fn all<T: Parse>(attrs: &[Attribute], name: &str) -> syn::Result<Vec<T>> {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).map(|attr| attr.parse_args::<T>()).collect()
}

/// The doc comment as one paragraph.
pub fn docs(attrs: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attr.meta
            && let syn::Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join(" ").trim().to_owned()
}
