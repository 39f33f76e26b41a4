//! Sizes: a file and a function that fit on a screen are read; others are not.

use std::path::PathBuf;

use syn::spanned::Spanned as _;
use syn::visit::Visit;

#[test]
fn files_are_short() {
    let mut lines: Vec<(usize, PathBuf)> =
        weir_tidy::rust_sources().into_iter().map(|(path, text)| (text.lines().count(), path)).collect();
    lines.sort();
    let at = |share: f64| &lines[(lines.len() as f64 * share) as usize];
    let longest = lines.last().unwrap();
    assert!(longest.0 <= 800, "no file above 800 lines: {longest:?}");
    assert!(at(0.9).0 <= 430, "nine in ten files have at most 430 lines: {:?}", &lines[lines.len() * 9 / 10..]);
    assert!(at(0.5).0 <= 150, "the median is at most 150 lines: {:?}", at(0.5));
}

#[derive(Default)]
struct Functions {
    lengths: Vec<(usize, String)>,
}

impl Functions {
    fn add(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (start, end) = (block.span().start().line, block.span().end().line);
        self.lengths.push((end - start + 1, name.to_string()));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn functions_are_short() {
    let mut all = Vec::new();
    for (path, text) in weir_tidy::rust_sources() {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut functions = Functions::default();
        functions.visit_file(&file);
        all.extend(functions.lengths.into_iter().map(|(length, name)| (length, name, path.clone())));
    }
    let long: Vec<_> = all.iter().filter(|(length, ..)| *length > 50).collect();
    assert!(long.len() * 100 <= all.len() * 5, "95 in 100 functions have at most 50 lines: {long:?}");
}
