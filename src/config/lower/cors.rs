//! What browsers on other origins are told.

use http::{HeaderValue, Method};

use crate::config::diagnostic::Fault;
use crate::config::plan::{Access, CorsPlan, MatchPlan, Origins};
use crate::config::view::View;

use super::Context;

/// What every answer says of itself: a script should be able to read why, and quote the request.
const EXPOSED: [&str; 3] = ["X-Request-Id", "WWW-Authenticate", "Retry-After"];
/// What a route takes that names no method.
const ANY: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

pub(super) fn cors(
    route: &View<'_>,
    matcher: &MatchPlan,
    access: &Access,
    context: &mut Context<'_>,
) -> Option<CorsPlan> {
    let view = route.block("cors");
    if !view.present() {
        return None;
    }
    edited(route, context);
    unmatched(route, context);
    let methods = methods(&view, matcher, context);
    Some(CorsPlan {
        origins: origins(&view, context),
        allow_methods: match methods.is_empty() {
            true => listed(ANY.iter().map(Method::as_str)),
            false => listed(methods.iter().map(Method::as_str)),
        },
        methods,
        allow_headers: headers(&view, access, context),
        expose_headers: expose(&view, context),
        max_age: max_age(&view, context),
    })
}

/// Names that are checked already, as one value.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> HeaderValue {
    let names: Vec<&str> = names.into_iter().collect();
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

fn origins(view: &View<'_>, context: &mut Context<'_>) -> Origins {
    let spots = view.items("origins");
    for (index, spot) in spots.iter().enumerate() {
        let text = spot.text();
        if text == "*" && spots.len() > 1 {
            let fault = Fault::new("`*` is every origin, and others stand beside it");
            context.problem(spot, fault.hint("keep `'*'` alone, or the others"));
        } else if spots[..index].iter().any(|other| other.text() == text) {
            let fault = Fault::new(format!("{} stands here twice", spot.node.shown()));
            context.problem(spot, fault.hint("leave one out"));
        }
    }
    if spots.iter().any(|spot| spot.text() == "*") {
        return Origins::Any;
    }
    let values = spots.iter();
    Origins::Listed(
        values
            .filter_map(|spot| HeaderValue::try_from(spot.text()).ok())
            .collect(),
    )
}

fn methods(view: &View<'_>, matcher: &MatchPlan, context: &mut Context<'_>) -> Vec<Method> {
    let with_head = |mut methods: Vec<Method>| {
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        methods
    };
    let taken = with_head(matcher.methods.clone());
    let spots = view.items("methods");
    if spots.is_empty() {
        return taken;
    }
    let mut methods = Vec::new();
    for spot in &spots {
        // What is no method at all is told already.
        let text = spot.text();
        let Some(method) = ANY.into_iter().find(|known| known.as_str() == text) else {
            continue;
        };
        if !taken.is_empty() && !taken.contains(&method) {
            let fault = Fault::new(format!("the route does not take {}", spot.node.shown()));
            context.problem(
                spot,
                fault.hint("add it to `match.methods`, or leave it out here"),
            );
        }
        methods.push(method);
    }
    with_head(methods)
}

fn headers(view: &View<'_>, access: &Access, context: &mut Context<'_>) -> Option<HeaderValue> {
    let names = names(view, "headers", context);
    let token = names
        .iter()
        .any(|n| n.eq_ignore_ascii_case("authorization"));
    if !token && matches!(access, Access::Token(_)) {
        let fault = Fault::new("no browser will send a token: `authorization` is not in `headers`");
        let (at, path) = view.place("headers");
        context
            .report
            .warning(at, &path, fault.hint("write `headers: [authorization]`"));
    }
    (!names.is_empty()).then(|| listed(names.iter().map(String::as_str)))
}

fn expose(view: &View<'_>, context: &mut Context<'_>) -> HeaderValue {
    let names = names(view, "expose", context);
    let more = names.iter().map(String::as_str);
    let more = more.filter(|name| !EXPOSED.iter().any(|own| own.eq_ignore_ascii_case(name)));
    listed(EXPOSED.into_iter().chain(more))
}

/// Header names, none of which is the `*` that would not cover `authorization` (Fetch standard, section 4.8).
fn names(view: &View<'_>, key: &str, context: &mut Context<'_>) -> Vec<String> {
    let spots = view.items(key);
    for spot in spots.iter().filter(|spot| spot.text() == "*") {
        let fault = Fault::new("`*` is no list of headers");
        context.problem(
            spot,
            fault.hint("name them: `*` would not cover `authorization`"),
        );
    }
    spots.iter().map(|spot| spot.text()).collect()
}

fn max_age(view: &View<'_>, context: &mut Context<'_>) -> Option<HeaderValue> {
    let spot = view.get("max_age")?;
    let age = view.optional_duration("max_age")?;
    if age.subsec_millis() != 0 {
        let fault = Fault::new(format!("{} is no whole seconds", spot.node.shown()));
        context.problem(
            &spot,
            fault.hint("browsers count in seconds: write `1s` or more"),
        );
    }
    Some(HeaderValue::from(age.as_secs()))
}

/// `cors` writes these last, whatever the edits say.
fn edited(route: &View<'_>, context: &mut Context<'_>) {
    for named in route.block("response_headers").named("set") {
        if named
            .name
            .to_ascii_lowercase()
            .starts_with("access-control-")
        {
            let fault = Fault::new(format!("`{}` is written by `cors`", named.name));
            context.problem_at(
                (named.at, named.spot.path.clone()),
                fault.hint("leave it out, and say it with the keys of `cors`"),
            );
        }
    }
}

/// A preflight names the headers that will come, not their values, and so finds the route that asks for none.
fn unmatched(route: &View<'_>, context: &mut Context<'_>) {
    if let Some(spot) = route.block("match").get("headers") {
        let fault = Fault::new("no preflight fulfils `match.headers`, so `cors` answers none here");
        context.warning(
            &spot,
            fault.hint("give the route without this condition the same `cors`"),
        );
    }
}
