//! The graph of modules inside modules: modules beside each other form no circle.
//!
//! A module may use what its parent declares (errors and types that the whole folder shares), and a parent its
//! children; between children of one parent, with all that lies below them, uses go one way. Sources are read as
//! text: `use` items, and paths that begin with `crate`, `super`, `self` or the name of a child.

use std::collections::{BTreeMap, BTreeSet};

use super::sources;

/// A module by its path from the crate's root.
type Module = Vec<String>;

/// The code of a module, without comments, tests and what only tests use.
struct Code {
    text: String,
    /// Paths of its `use` items; whether they are visible outside.
    uses: Vec<(bool, Vec<String>)>,
}

/// All modules of the crate.
struct Tree(BTreeMap<Module, Code>);

#[test]
fn modules_beside_each_other_use_one_another_one_way() {
    let tree = Tree::read();
    assert!(tree.0.len() > 150, "{} modules", tree.0.len());
    let circles = circles(&tree.siblings());
    assert!(
        circles.is_empty(),
        "modules that use each other in a circle: {circles:?}"
    );
}

#[test]
fn paths_are_found_and_resolved() {
    let tree = Tree::read();
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let uses = tree.uses(&module("decode::host::attention"));
    // `use super::kernels::{..}` and `use super::super::activations::..`.
    assert!(uses.contains(&module("decode::host::kernels")), "{uses:?}");
    assert!(uses.contains(&module("decode::activations")), "{uses:?}");
    // `pub use fit::..` in `plan` leads from `crate::plan::Fit` to the file that has it.
    let uses = tree.uses(&module("report::fit::text"));
    assert!(uses.contains(&module("plan::fit")), "{uses:?}");
    let nested = flattened("a::{b::{self, c as d}, e}");
    assert_eq!(nested, ["a::b::self", "a::b::c", "a::e"]);
}

/// The crate's circles for which `graph` has the uses of siblings.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<String> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = graph
        .keys()
        .map(|from| (from, reach(graph, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, to) in &reached {
        let together = to.iter().filter(|to| reached[**to].contains(from));
        let names: BTreeSet<&str> = together.filter_map(|m| Some(m.last()?.as_str())).collect();
        if names.len() > 1 {
            let parent = from[..from.len() - 1].join("::");
            let names: Vec<&str> = names.into_iter().collect();
            circles.insert(format!("{parent}: {}", names.join(" ")));
        }
    }
    circles
}

/// What `from` uses, and what that uses.
fn reach<'a>(
    graph: &'a BTreeMap<Module, BTreeSet<Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for used in &graph[module] {
            if found.insert(used) {
                open.push(used);
            }
        }
    }
    found
}

impl Tree {
    fn read() -> Tree {
        let mut tree = BTreeMap::new();
        let mut only_tests = BTreeSet::new();
        for (_, path, text) in sources() {
            let path = path.strip_prefix(super::root().join("src")).unwrap();
            let path = path.with_extension("");
            let mut module: Module = path
                .iter()
                .map(|s| s.to_str().unwrap().to_owned())
                .collect();
            match module.last().map(String::as_str) {
                Some("main") => continue,
                Some("mod" | "lib") => drop(module.pop()),
                _ => {}
            }
            let text: String = text
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("\n");
            // `#[cfg(test)] mod name;` names a file of tests, with a brace they follow to the end.
            let mut parts = text.split("#[cfg(test)]\nmod ");
            let mut code = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (name, rest) = part.split_once([';', ' ']).unwrap();
                if rest.starts_with('{') {
                    break;
                }
                only_tests.insert([module.as_slice(), &[name.to_owned()]].concat());
                code.push_str(rest);
            }
            let uses = used(&code);
            tree.insert(module, Code { text: code, uses });
        }
        tree.retain(|module, _| !only_tests.contains(module));
        Tree(tree)
    }

    fn is_child(&self, parent: &[String], name: &str) -> bool {
        self.0.contains_key(&[parent, &[name.to_owned()]].concat())
    }

    /// The module that `path`, written in `module`, leads to; `None` for other crates'.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Module> {
        let mut at = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &path[1..];
            }
            "super" | "self" => {
                while let Some(("super" | "self", further)) = first(rest) {
                    if rest[0] == "super" {
                        at.pop();
                    }
                    rest = further;
                }
            }
            name if self.is_child(module, name) => {}
            _ => return None,
        }
        while let Some((name, further)) = first(rest) {
            if self.is_child(&at, name) {
                at.push(name.to_owned());
                rest = further;
                continue;
            }
            let code = self.0.get(&at)?;
            let mut exported = code.uses.iter().filter(|(visible, _)| *visible);
            let exported = exported.find(|(_, path)| path.last().is_some_and(|last| last == name));
            let Some((_, path)) = exported.filter(|_| depth < 8) else {
                break;
            };
            return self.resolve(&at, path, depth + 1).or(Some(at));
        }
        Some(at)
    }

    /// The modules that a module's own code uses.
    fn uses(&self, module: &Module) -> BTreeSet<Module> {
        let code = &self.0[module];
        // What a module only hands on, it does not use.
        let own = code.uses.iter().filter(|(visible, _)| !visible);
        let mut paths: Vec<Vec<String>> = own.map(|(_, path)| path.clone()).collect();
        paths.extend(inline(&code.text));
        let resolved = paths
            .iter()
            .filter_map(|path| self.resolve(module, path, 0));
        resolved.filter(|used| used != module).collect()
    }

    /// For modules beside each other, which uses which, each with all that lies below it.
    fn siblings(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut graph: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for module in self.0.keys() {
            for used in self.uses(module) {
                let common = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                // One lies in the other.
                if common == module.len() || common == used.len() {
                    continue;
                }
                let [from, to] = [module, &used].map(|m| m[..=common].to_vec());
                graph.entry(to.clone()).or_default();
                graph.entry(from).or_default().insert(to);
            }
        }
        graph
    }
}

fn first(path: &[String]) -> Option<(&str, &[String])> {
    path.split_first().map(|(name, rest)| (name.as_str(), rest))
}

/// The paths of `use` items, and whether they are visible outside.
fn used(code: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for item in code.split(';') {
        // An item begins its line.
        let Some(start) = item.match_indices("use ").map(|(at, _)| at).find(|at| {
            let line = item[..*at]
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .trim_start();
            line.is_empty() || (line.starts_with("pub") && line.ends_with(' '))
        }) else {
            continue;
        };
        let line = item[..start].rsplit('\n').next().unwrap_or_default();
        let visible = line.trim_start().starts_with("pub");
        for path in flattened(&item[start + 4..]) {
            found.push((visible, path.split("::").map(str::to_owned).collect()));
        }
    }
    found
}

/// `a::{b, c as d}` as `a::b` and `a::c`.
fn flattened(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return Vec::from_iter((!path.is_empty()).then(|| path.to_owned()));
    };
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    let each = parts.into_iter().flat_map(flattened);
    each.map(|part| format!("{}{part}", before.trim()))
        .collect()
}

/// Paths in the code that are no `use` items.
fn inline(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code
        .split(|c| !is_path(c))
        .filter(|word| word.contains("::"));
    let path = |word: &str| -> Vec<String> {
        let segments = word.split("::").filter(|segment| !segment.is_empty());
        segments.map(str::to_owned).collect()
    };
    words.map(path).collect()
}
