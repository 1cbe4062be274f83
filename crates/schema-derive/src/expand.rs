//! From the struct and its attributes to the `type_def` function.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Fields, Ident, Lit, LitStr, Token, Type, ext::IdentExt};

use crate::attributes::{self, ActionAttr, CommonAttr, ExtraFilter, FieldAttr, LinkAttr, LinkKind, ResourceAttr, docs};

/// Which of the two derives of types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Resource,
    Nested,
}

const COMMON: [&str; 11] =
    ["account_id", "created", "description", "id", "kind", "name", "removed", "state", "transitioning", "uuid", "data"];

/// The implementation of the trait and of `FieldType`.
pub fn derive(input: &DeriveInput, role: Role) -> syn::Result<TokenStream> {
    let members = members(input)?;
    let mut resource = attributes::all::<ResourceAttr>(&input.attrs, "resource")?;
    let resource = match (resource.pop(), resource.is_empty()) {
        (Some(resource), true) => resource,
        _ => return Err(syn::Error::new(input.ident.span(), "exactly one `#[resource(id = \"..\")]` is needed")),
    };
    let Some(id) = &resource.id else {
        return Err(syn::Error::new(input.ident.span(), "`#[resource(..)]` needs `id = \"..\"`, the wire name"));
    };
    if role == Role::Nested && (resource.machine.is_some() || resource.table.is_some()) {
        return Err(syn::Error::new(id.span(), "a nested type has no rows, so neither table nor machine"));
    }
    let rows = role == Role::Resource && !resource.no_rows;

    let common = common_fields(input, role, &resource)?;
    for member in &members {
        if role == Role::Resource && common.has(member.ident) {
            return Err(syn::Error::new(member.ident.span(), "a common field; say how it differs in `#[common(..)]`"));
        }
    }
    let Declared { fields, mut links, mut actions } = declared(&members, role);
    actions.push(own_actions(input)?);

    let listed = !resource.no_list;
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let trait_name = match role {
        Role::Resource => quote!(Resource),
        Role::Nested => quote!(Nested),
    };
    let table = resource.table.as_ref().or(resource.parent.as_ref()).unwrap_or(id);
    let table_const = (role == Role::Resource).then(|| quote!(const TABLE: &'static str = #table;));
    let storage =
        if rows { quote!(::remuda_schema::Storage::Table(#table)) } else { quote!(::remuda_schema::Storage::None) };
    let parent = option(resource.parent.as_ref());
    let plural = option(resource.plural.as_ref());
    let machine = match &resource.machine {
        Some(path) => quote!(::core::option::Option::Some(&#path)),
        None => quote!(::core::option::Option::None),
    };
    let access = role_letters(&resource.access);
    let mut extra = Vec::new();
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("extra_filters")) {
        extra.extend(attr.parse_args_with(Punctuated::<ExtraFilter, Token![,]>::parse_terminated)?);
    }
    let extra = extra.iter().map(|filter| {
        let (name, ty) = (filter.name.unraw().to_string(), wire_type(&filter.ty));
        quote!((#name, #ty))
    });
    let description = docs(&input.attrs);
    let common_tokens = &common.tokens;
    if common.links_account {
        links.push(quote!(::std::vec![::remuda_schema::support::account_link()]));
    }
    links.push(own_links(input)?);
    let (fields, links) = (joined(&quote!(Field), &fields), joined(&quote!(Link), &links));
    let actions = joined(&quote!(Action), &actions);
    // What a value holds can be part of another value: a sidekick is a launch config with a name.
    let (part, fields) = match role {
        Role::Resource => (None, fields),
        Role::Nested => {
            let nothing = |ty| joined(&ty, &[]);
            let part = implementation(input, &fields, &nothing(quote!(Link)), &nothing(quote!(Action)));
            (Some(part), quote!(<Self as ::remuda_schema::Fields>::fields()))
        }
    };
    Ok(quote! {
        #part

        #[automatically_derived]
        impl #generics ::remuda_schema::#trait_name for #name #arguments #bounds {
            const TYPE: &'static str = #id;
            #table_const
            fn type_def() -> ::remuda_schema::TypeDef {
                let mut fields: ::std::vec::Vec<::remuda_schema::Field> = #common_tokens;
                fields.extend(#fields);
                ::remuda_schema::TypeDef {
                    name: #id,
                    plural: #plural,
                    parent: #parent,
                    storage: #storage,
                    listed: #listed,
                    access: ::remuda_schema::Access(::std::vec![#access]),
                    fields,
                    extra_filters: ::std::vec![#(#extra),*],
                    links: #links,
                    actions: #actions,
                    machine: #machine,
                    description: #description,
                }
            }
        }

        #[automatically_derived]
        impl #generics ::remuda_schema::FieldType for #name #arguments #bounds {
            fn field_type() -> ::remuda_schema::Type {
                ::remuda_schema::Type::Nested(::std::string::String::from(#id))
            }
        }
    })
}

/// The implementation of `Fields`: no type of its own, but what the types that flatten it have in common.
pub fn derive_fields(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Declared { fields, mut links, mut actions } = declared(&members(input)?, Role::Resource);
    links.push(own_links(input)?);
    actions.push(own_actions(input)?);
    let (fields, links) = (joined(&quote!(Field), &fields), joined(&quote!(Link), &links));
    Ok(implementation(input, &fields, &links, &joined(&quote!(Action), &actions)))
}

/// The actions that the struct itself declares.
fn own_actions(input: &DeriveInput) -> syn::Result<TokenStream> {
    let actions = attributes::all::<ActionAttr>(&input.attrs, "action")?;
    let mut seen = std::collections::BTreeSet::new();
    for action in &actions {
        if !seen.insert(action.name.to_string()) {
            return Err(syn::Error::new(action.name.span(), format!("action `{}` is declared twice", action.name)));
        }
    }
    let actions = actions.iter().map(|action| {
        let name = action.name.unraw().to_string();
        let (input, output) = (option(action.input.as_ref()), option(action.output.as_ref()));
        quote!(::remuda_schema::Action { name: #name, input: #input, output: #output })
    });
    Ok(quote!(::std::vec![#(#actions),*]))
}

/// The links that the struct itself declares.
fn own_links(input: &DeriveInput) -> syn::Result<TokenStream> {
    let links = attributes::all::<LinkAttr>(&input.attrs, "relation")?.into_iter().map(|link| declared_link(&link));
    Ok(quote!(::std::vec![#(#links),*]))
}

fn implementation(
    input: &DeriveInput,
    fields: &TokenStream,
    links: &TokenStream,
    actions: &TokenStream,
) -> TokenStream {
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #generics ::remuda_schema::Fields for #name #arguments #bounds {
            fn fields() -> ::std::vec::Vec<::remuda_schema::Field> {
                #fields
            }
            fn links() -> ::std::vec::Vec<::remuda_schema::Link> {
                #links
            }
            fn actions() -> ::std::vec::Vec<::remuda_schema::Action> {
                #actions
            }
        }
    }
}

/// Expressions of `Vec`s of that type, as one.
fn joined(ty: &TokenStream, parts: &[TokenStream]) -> TokenStream {
    quote! {{
        let parts: ::std::vec::Vec<::std::vec::Vec<::remuda_schema::#ty>> = ::std::vec![#(#parts),*];
        parts.into_iter().flatten().collect::<::std::vec::Vec<_>>()
    }}
}

/// One field of the struct, with its declaration.
struct Member<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    attr: FieldAttr,
    description: String,
}

fn members(input: &DeriveInput) -> syn::Result<Vec<Member<'_>>> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new(input.ident.span(), "only a struct can be declared as a resource"));
    };
    check_serde(input)?;
    let fields = match &data.fields {
        Fields::Named(named) => named.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(_) => return Err(syn::Error::new(input.ident.span(), "fields need names")),
    };
    let mut members = Vec::new();
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let mut given = attributes::all::<FieldAttr>(&field.attrs, "field")?;
        let attr = match (given.pop(), given.is_empty()) {
            (Some(attr), true) => attr,
            _ => return Err(syn::Error::new(ident.span(), "every field has exactly one `#[field(..)]`")),
        };
        if attr.flatten != is_flat_for_serde(field)? {
            let text = "`#[field(flatten)]` and `#[serde(flatten)]` go together: what is declared is what is stored";
            return Err(syn::Error::new(ident.span(), text));
        }
        members.push(Member { ident, ty: &field.ty, attr, description: docs(&field.attrs) });
    }
    Ok(members)
}

fn is_flat_for_serde(field: &syn::Field) -> syn::Result<bool> {
    let mut flat = false;
    for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        attr.parse_nested_meta(|meta| {
            flat |= meta.path.is_ident("flatten");
            if meta.input.peek(Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        })?;
    }
    Ok(flat)
}

/// What members bring along: expressions of `Vec`s.
#[derive(Default)]
struct Declared {
    fields: Vec<TokenStream>,
    links: Vec<TokenStream>,
    actions: Vec<TokenStream>,
}

/// What each member declares, with the links and actions that come with it. A value has no rows to filter, to act on or
/// to follow links from, so it takes only the fields of what it flattens.
fn declared(members: &[Member<'_>], role: Role) -> Declared {
    let Declared { mut fields, mut links, mut actions } = Declared::default();
    for Member { ident, ty, attr, description } in members {
        let name = camel(&ident.unraw().to_string());
        if attr.flatten && role == Role::Nested {
            fields.push(quote!(::remuda_schema::support::fields_of_value::<#ty>()));
        } else if attr.flatten {
            fields.push(quote!(<#ty as ::remuda_schema::Fields>::fields()));
            links.push(quote!(<#ty as ::remuda_schema::Fields>::links()));
            actions.push(quote!(<#ty as ::remuda_schema::Fields>::actions()));
        } else {
            let declaration = field(&name, ty, attr, description);
            fields.push(quote!(::std::vec![#declaration]));
            if attr.filter && !attr.hidden && !attr.no_link && is_reference(ty) {
                let link = auto_link(&name, ty);
                links.push(quote!(::std::vec![#link]));
            }
        }
    }
    Declared { fields, links, actions }
}

/// The wire names are serde's; a struct without these two would store other keys than it declares.
fn check_serde(input: &DeriveInput) -> syn::Result<()> {
    let mut camel_case = false;
    let mut default = false;
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename_all") {
                camel_case = meta.value()?.parse::<LitStr>()?.value() == "camelCase";
            } else if meta.path.is_ident("default") {
                default = true;
            } else if meta.input.peek(Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        })?;
    }
    if camel_case && default {
        return Ok(());
    }
    Err(syn::Error::new(input.ident.span(), "add `#[serde(rename_all = \"camelCase\", default)]`"))
}

struct Common {
    tokens: TokenStream,
    without: Vec<String>,
    nested: bool,
    /// The owner is visible, so there is a link to it.
    links_account: bool,
}

impl Common {
    /// Whether that is a common field of the type, so that the struct must not declare it again.
    fn has(&self, ident: &Ident) -> bool {
        let name = ident.unraw().to_string();
        COMMON.contains(&name.as_str()) && !self.nested && !self.without.contains(&name)
    }
}

fn common_fields(input: &DeriveInput, role: Role, resource: &ResourceAttr) -> syn::Result<Common> {
    if role == Role::Nested {
        return Ok(Common {
            tokens: quote!(::std::vec::Vec::new()),
            without: Vec::new(),
            nested: true,
            links_account: false,
        });
    }
    let mut all = CommonAttr::default();
    for one in attributes::all::<CommonAttr>(&input.attrs, "common")? {
        all.without.extend(one.without);
        all.hidden.extend(one.hidden);
        all.changed.extend(one.changed);
    }
    for ident in all.without.iter().chain(&all.hidden) {
        if !COMMON.contains(&ident.to_string().as_str()) {
            return Err(syn::Error::new(ident.span(), format!("not a common field; those are {}", COMMON.join(", "))));
        }
    }
    let without: Vec<String> = all.without.iter().map(Ident::to_string).collect();
    let absent = without.iter().map(|name| camel(name));
    let hidden = all.hidden.iter().map(|ident| camel(&ident.to_string()));
    let changed = all.changed.iter().map(|(ident, attr)| {
        let name = ident.to_string();
        let ty: Type = if name == "id" { syn::parse_quote!(i64) } else { syn::parse_quote!(::std::string::String) };
        field(&camel(&name), &ty, attr, "")
    });
    let machine = match &resource.machine {
        Some(path) => quote!(::core::option::Option::Some(&#path)),
        None => quote!(::core::option::Option::None),
    };
    let tokens =
        quote!(::remuda_schema::support::common_fields(#machine, &[#(#absent),*], &[#(#hidden),*], [#(#changed),*]));
    let links_account =
        !without.iter().any(|name| name == "account_id") && !all.hidden.iter().any(|name| name == "account_id");
    Ok(Common { tokens, without, nested: false, links_account })
}

fn field(name: &str, ty: &Type, attr: &FieldAttr, description: &str) -> TokenStream {
    let mut wire = match &attr.ty {
        Some(text) => wire_type(text),
        None => quote!(<#ty as ::remuda_schema::FieldType>::field_type()),
    };
    if attr.options.is_some() {
        wire = quote!(#wire.with_options());
    }
    let FieldAttr { create, update, required, nullable, unique, input_only, schedules_update, .. } = attr;
    let FieldAttr { read_on_create_only, eq_filter, .. } = attr;
    let filter = attr.filter || attr.eq_filter;
    let some = |value: TokenStream| quote!(::core::option::Option::Some(#value));
    let none = quote!(::core::option::Option::None);
    let default = match &attr.default {
        Some(Lit::Int(number)) => some(quote!(::remuda_schema::support::Value::from(#number as i64))),
        Some(literal) => some(quote!(::remuda_schema::support::Value::from(#literal))),
        None => none.clone(),
    };
    let options = match &attr.options {
        Some(options) => some(quote!(::std::vec![#(#options),*])),
        None => none.clone(),
    };
    let (min_length, min, max) =
        (option(attr.min_length.as_ref()), option(attr.min.as_ref()), option(attr.max.as_ref()));
    // Columns of the original were varchar(255) unless said otherwise, and every filter was a column.
    let max_length = match &attr.max_length {
        Some(length) => some(quote!(#length)),
        None if filter && !attr.no_max_length => quote!(::remuda_schema::support::column_length(&ty)),
        None => none,
    };
    let (valid, invalid) = (option(attr.valid_chars.as_ref()), option(attr.invalid_chars.as_ref()));
    let (transform, id_of) = (option(attr.transform.as_ref()), option(attr.id_of.as_ref()));
    let roles = role_letters(&attr.roles);
    let visibility = if attr.hidden {
        quote!(Hidden)
    } else if attr.admin {
        quote!(Admin)
    } else {
        quote!(Public)
    };
    quote! {{
        let ty = #wire;
        ::remuda_schema::Field {
            name: #name,
            create: #create,
            update: #update,
            required: #required,
            nullable: #nullable,
            unique: #unique,
            read_on_create_only: #read_on_create_only,
            default: #default,
            min_length: #min_length,
            max_length: #max_length,
            min: #min,
            max: #max,
            options: #options,
            valid_chars: #valid,
            invalid_chars: #invalid,
            transform: #transform,
            filter: #filter,
            eq_filter: #eq_filter,
            id_of: #id_of,
            roles: ::remuda_schema::Access(::std::vec![#roles]),
            visibility: ::remuda_schema::Visibility::#visibility,
            input_only: #input_only,
            schedules_update: #schedules_update,
            description: #description,
            ty,
        }
    }}
}

fn role_letters(letters: &[(Ident, LitStr)]) -> TokenStream {
    let pairs = letters.iter().map(|(role, letters)| {
        let role = Ident::new(&capitalised(&role.to_string()), role.span());
        quote!((::remuda_schema::Role::#role, #letters))
    });
    quote!(#(#pairs),*)
}

fn wire_type(text: &LitStr) -> TokenStream {
    quote!(::remuda_schema::support::wire_type(#text))
}

fn option<T: quote::ToTokens>(value: Option<T>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// `Id<T>` or `Option<Id<T>>`, by name: a derive sees no types.
fn is_reference(ty: &Type) -> bool {
    reference_target(ty).is_some()
}

fn reference_target(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let Some(syn::GenericArgument::Type(inner)) = arguments.args.first() else { return None };
    match last.ident.to_string().as_str() {
        "Id" => Some(inner),
        "Option" => reference_target(inner),
        _ => None,
    }
}

/// A reference column leads to its row under its own name without `Id`.
fn auto_link(name: &str, ty: &Type) -> TokenStream {
    let link = name.strip_suffix("Id").unwrap_or(name);
    let target = reference_target(ty);
    quote!(::remuda_schema::Link {
        name: #link,
        kind: ::remuda_schema::LinkKind::Reference { field: #name, to: <#target as ::remuda_schema::Resource>::TYPE },
        includeable: true,
    })
}

fn declared_link(link: &LinkAttr) -> TokenStream {
    let (name, includeable) = (link.name.unraw().to_string(), link.includeable);
    let kind = match &link.kind {
        LinkKind::Reference { field, to } => quote!(Reference { field: #field, to: #to }),
        LinkKind::List { field, to } => quote!(List { field: #field, to: #to }),
        LinkKind::Children { of, by } => quote!(Children { of: #of, by: #by }),
        LinkKind::Through { to, through, from, via } => {
            quote!(Through { to: #to, through: #through, from: #from, via: #via })
        }
        LinkKind::Computed => quote!(Computed),
    };
    quote!(::remuda_schema::Link { name: #name, kind: ::remuda_schema::LinkKind::#kind, includeable: #includeable })
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// serde's `camelCase` of a field name.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        out.push_str(&capitalised(word));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(role: Role, text: &str) -> String {
        let input: DeriveInput = syn::parse_str(text).expect("the test's struct is Rust");
        derive(&input, role).map_or_else(|error| error.to_string(), |tokens| format!("accepted: {tokens}"))
    }

    /// A struct with these attributes and this one field.
    fn declared(attributes: &str, field: &str) -> String {
        let serde = "#[serde(rename_all = \"camelCase\", default)]";
        refusal(Role::Resource, &format!("{serde} #[resource(id = \"horse\")] {attributes} struct Horse {{ {field} }}"))
    }

    #[test]
    fn mistakes_are_told_in_words() {
        for (attributes, field, expected) in [
            ("#[resource(id = \"a\")]", "", "exactly one `#[resource(id = \"..\")]` is needed"),
            ("", "age: i64", "every field has exactly one `#[field(..)]`"),
            ("", "#[field()] name: String", "a common field; say how it differs in `#[common(..)]`"),
            ("", "#[field(create, hidden, admin)] age: i64", "a field is `hidden` or `admin`, not both"),
            (
                "",
                "#[field(max_length = 1, no_max_length)] age: i64",
                "`max_length` and `no_max_length` contradict each other",
            ),
            ("#[common(without(age))]", "", "not a common field; those are account_id, created"),
            ("#[action(Shoe)]", "", "action names are lower-case words without separators"),
            ("#[action(shoe)] #[action(shoe)]", "", "action `shoe` is declared twice"),
            ("#[action(shoe, put = \"x\")]", "", "`put` is not known here; known are input, output"),
            ("#[relation(foals, children(of = \"horse\"))]", "", "missing by"),
            ("#[relation(foals, not_includeable)]", "", "a link says how it is followed"),
            ("#[extra_filters(x = \"array[\")]", "", "`array[` is not a field type"),
            ("", "#[field(flatten)] age: Age", "`#[field(flatten)]` and `#[serde(flatten)]` go together"),
            ("", "#[field()] #[serde(flatten)] age: Age", "`#[field(flatten)]` and `#[serde(flatten)]` go together"),
            ("", "#[field(flatten, create)] #[serde(flatten)] age: Age", "`flatten` stands alone"),
            ("", "#[field(creat)] age: i64", "`creat` is not known here"),
            ("", "#[field(ty = \"\")] age: i64", "`` is not a field type"),
            ("", "#[field(roles(king = \"r\"))] age: i64", "`king` is not known here"),
            ("", "#[field(roles(admin = \"x\"))] age: i64", "letters are some of `crud`"),
            ("", "#[field(roles(admin = \"r\", admin = \"c\"))] age: i64", "`admin` is named twice"),
        ] {
            let found = declared(attributes, field);
            assert!(found.starts_with(expected), "{attributes} {field}: {found}");
        }
    }

    #[test]
    fn structs_that_store_other_names_than_they_declare_are_refused() {
        let told = "add `#[serde(rename_all = \"camelCase\", default)]`";
        for serde in ["", "#[serde(default)]", "#[serde(rename_all = \"snake_case\", default)]"] {
            let text = format!("{serde} #[resource(id = \"horse\")] struct Horse {{}}");
            assert_eq!(refusal(Role::Resource, &text), told);
        }
        assert_eq!(refusal(Role::Resource, "enum Horse {}"), "only a struct can be declared as a resource");
    }

    #[test]
    fn values_have_neither_table_nor_machine() {
        let text =
            "#[serde(rename_all = \"camelCase\", default)] #[resource(id = \"gear\", table = \"x\")] struct Gear {}";
        assert_eq!(refusal(Role::Nested, text), "a nested type has no rows, so neither table nor machine");
    }

    #[test]
    fn names_are_those_of_serde() {
        for (name, expected) in [("image_uuid", "imageUuid"), ("dns", "dns"), ("is_host_path", "isHostPath")] {
            assert_eq!(camel(name), expected);
        }
    }
}
