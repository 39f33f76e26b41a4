//! What a lab with somebody else's rules tells: a request to every service, one for every match that one can be read
//! off, where it went and which rule decided. It judges nothing, because only the author knows what must happen.

use weir_core::name::DEFAULT_NAMESPACE;

use super::Story;
use super::running::Running;
use super::sample::{Sample, list};
use super::story::ask::{Answer, curl, decided_by, shown};
use super::story::built;
use super::terrain;
use crate::command::print;
use crate::command::table::Table;
use crate::interrupt::Interrupt;

/// Requests that are sent; whoever has more rules finds them by `weir explain`.
const REQUESTS: usize = 30;
/// Of what Weir says itself with an error.
const WORDS_SHOWN: usize = 60;

/// A request that is to be sent, or why none can be.
struct Question {
    /// What it is about: a service, or a match of a rule.
    about: String,
    /// Namespace and name.
    service: (String, String),
    sample: Result<Sample, String>,
}

/// Sends a request for every match and prints where each went. It fails when one that can be sent has no answer.
pub(crate) fn survey(running: &Running, interrupted: &Interrupt) -> anyhow::Result<Story> {
    print(&built(running))?;
    let questions = questions(&running.rules())?;
    let (mut table, mut story) = (Table::default(), Story::Passed);
    table.row(["for", "request from client", "decided by", "answer"].map(Into::into));
    let mut first = None;
    for question in questions.iter().take(REQUESTS) {
        if interrupted.is_set() {
            story = Story::Interrupted;
            break;
        }
        let [request, decided, answer] = match row(running, question, &mut first) {
            Ok(cells) => cells,
            Err(error) => {
                story = Story::Failed;
                [String::new(), String::new(), format!("FAILED  {error:#}")]
            }
        };
        table.row([question.about.clone(), request, decided, answer].map(Into::into));
    }
    print(&format!("\n{table}"))?;
    if let Some(more) = questions.len().checked_sub(REQUESTS).filter(|more| *more > 0) {
        print(&format!("... and {more} more, see `weir explain`\n"))?;
    }
    if let Some(command) = first {
        print(&format!("\nthe first of them again:\n  {command}\n"))?;
    }
    Ok(story)
}

/// Request, what decided and the answer.
fn row(running: &Running, question: &Question, first: &mut Option<String>) -> anyhow::Result<[String; 3]> {
    let (namespace, name) = &question.service;
    let dash = || "-".to_owned();
    let Some((address, port)) = terrain::address_of(namespace, name) else {
        return Ok([dash(), dash(), format!("not sent: the lab has no service {namespace}/{name}")]);
    };
    let sample = match &question.sample {
        Ok(sample) => sample,
        Err(field) => return Ok([dash(), dash(), format!("not sent: no value can be read off {field}")]),
    };
    let port = if port == 80 { String::new() } else { format!(":{port}") };
    let url = format!("http://{address}{port}{}", sample.target);
    let mut arguments = vec![url.as_str()];
    arguments.extend(sample.arguments());
    first.get_or_insert_with(|| shown(running, "client", &arguments));
    let answer = curl(running, "client", &arguments)?;
    let headers: Vec<&str> = sample.headers.iter().map(String::as_str).collect();
    let decided = decided_by(running, &url, &sample.method, &headers)?;
    Ok([format!("{sample}"), decided.unwrap_or_else(|| "no rule".to_owned()), told(&answer, &sample.method)])
}

fn told(answer: &Answer, method: &str) -> String {
    match (&answer.body, answer.server.as_str()) {
        // Its answer has a head only, which does not say who made it.
        _ if method == "HEAD" => answer.status.to_string(),
        (serde_json::Value::String(words), "") => {
            let words: String = words.lines().next().unwrap_or_default().chars().take(WORDS_SHOWN).collect();
            format!("{} {words}", answer.status)
        }
        (_, server) => format!("{} from {server}", answer.status),
    }
}

/// A request to each service, then one for each match of each rule and each service that it names.
fn questions(rules: &std::path::Path) -> anyhow::Result<Vec<Question>> {
    let files = weir_sources::read(&[rules.to_owned()], &weir_sources::Limits::default()).map_err(|errors| {
        anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let plain = |(namespace, name): (&str, &str)| Question {
        about: format!("Service {namespace}/{name}"),
        service: (namespace.to_owned(), name.to_owned()),
        sample: Ok(Sample::plain()),
    };
    let mut questions: Vec<Question> = terrain::SERVICES.map(plain).into();
    let documents = weir_config::parse(&files).documents;
    for document in documents.iter().filter(|document| &*document.name.kind == "RouteRule") {
        let spec = &serde_json::from_str::<serde_json::Value>(&document.canonical)?["spec"];
        questions.extend(of_rule(&document.name.namespace, &document.name.name, spec));
    }
    Ok(questions)
}

fn of_rule(namespace: &str, rule: &str, spec: &serde_json::Value) -> Vec<Question> {
    let named = list(&spec["services"]).iter().filter_map(|service| service.as_str().or(service["name"].as_str()));
    let mut services: Vec<&str> = named.collect();
    if services.is_empty() {
        // It applies to every service of its namespace: the first of the lab's stands for them.
        let of_namespace = terrain::SERVICES.iter().find(|(of, _)| *of == namespace);
        services.push(of_namespace.map_or("(every service)", |(_, name)| name));
    }
    let no_conditions = [serde_json::Value::Null];
    let matches = match list(&spec["match"]) {
        [] => &no_conditions,
        matches => matches,
    };
    let prefix = if namespace == DEFAULT_NAMESPACE { String::new() } else { format!("{namespace}/") };
    let question = |(position, conditions): (usize, &serde_json::Value), service: &str| Question {
        about: format!("{prefix}{rule} match {position}"),
        service: (namespace.to_owned(), service.to_owned()),
        sample: Sample::of(conditions),
    };
    let of_match =
        |one: (usize, &serde_json::Value)| services.iter().map(|service| question(one, service)).collect::<Vec<_>>();
    matches.iter().enumerate().flat_map(of_match).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        let document = format!("apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: r}}\nspec: {text}\n");
        std::fs::write(folder.path().join("r.yaml"), document).unwrap();
        let questions = questions(folder.path()).unwrap();
        let told = |question: &Question| {
            let sample = question.sample.as_ref().map_or_else(|field| format!("no {field}"), ToString::to_string);
            (question.about.clone(), format!("{}/{}", question.service.0, question.service.1), sample)
        };
        let found: Vec<_> = questions.iter().skip(terrain::SERVICES.len()).map(told).collect();
        let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_match_has_its_request() {
        let v = "default/vehicle-recognition";
        check("{timeouts: {request: 1s}}", &[("r match 0", v, "GET /")]);
        check(
            "{services: [a, {name: b, port: 80}], match: {method: GET}, timeouts: {request: 1s}}",
            &[("r match 0", "default/a", "GET /"), ("r match 0", "default/b", "GET /")],
        );
        check(
            "{match: [{path: {prefix: /a}}, {headers: {X-User: {prefix: u}}}, {path: {regex: /a+}}], timeouts: {request: 1s}}",
            &[("r match 0", v, "GET /a"), ("r match 1", v, "GET / 'x-user: u'"), ("r match 2", v, "no path")],
        );
    }
}
