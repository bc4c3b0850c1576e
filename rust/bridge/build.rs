//! Writes the cxx glue and, from the rows of the op table, the C++ side of it: `ops.h` (every op's
//! id and name) and `pointwise_headers.inc`, `pointwise_rows.inc` (the ATen registrations).
//! They go to `generated` in cargo's target folder, where setup.py points the C++ compiler: one place
//! for every profile, so that clippy and the build of the extension do not undo each other's work.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const BRIDGES: [&str; 4] = ["src/lib.rs", "src/graph.rs", "src/checkpoint.rs", "src/profile.rs"];
const HEADERS: [&str; 5] = [
    "rust/cxx.h",
    "rustorch-bridge/src/lib.rs.h",
    "rustorch-bridge/src/graph.rs.h",
    "rustorch-bridge/src/checkpoint.rs.h",
    "rustorch-bridge/src/profile.rs.h",
];
/// The op table: its files and sections, in order.
const TABLE: [(&str, &str); 2] =
    [("../kernels/src/ops/table.rs", "pointwise"), ("../kernels/src/ops/kernels.rs", "kernels")];

/// A row as the generator needs it; kernel rows have no arity and no overloads.
struct Row {
    name: String,
    arity: String,
    is_test: bool,
    form: String,
    overloads: Vec<String>,
}

fn main() {
    for (file, _) in TABLE {
        println!("cargo:rerun-if-changed={file}");
    }
    for bridge in BRIDGES {
        println!("cargo:rerun-if-changed={bridge}");
    }
    cxx_build::bridges(BRIDGES).std("c++20").compile("rustorch_cxx");
    let own = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let mut all = Vec::new();
    for (file, section) in TABLE {
        let text = std::fs::read_to_string(file).expect("the op table is readable");
        all.extend(rows(text.parse().expect("the op table is Rust"), section).expect("the file has its section"));
    }
    let rows = all;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("../../target"), PathBuf::from);
    let folder = target.join("generated");
    write_if_changed(&folder.join("ops.h"), &ops_header(&rows));
    write_if_changed(&folder.join("pointwise_headers.inc"), &pointwise_headers(&rows));
    write_if_changed(&folder.join("pointwise_rows.inc"), &pointwise_rows(&rows));
    // cxx's own folder of headers points into that of the last build script that ran, clippy's or the
    // build's, each with its own times.
    for header in HEADERS {
        let text = std::fs::read_to_string(own.join("cxxbridge/include").join(header));
        write_if_changed(&folder.join(header), &text.expect("cxx has written its headers"));
    }
}

/// An unchanged file keeps its time, so that C++ is compiled only for rows that changed.
fn write_if_changed(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    let folder = path.parent().expect("a generated file is in a folder");
    std::fs::create_dir_all(folder).expect("the folder for generated files can be made");
    std::fs::write(path, text).expect("a generated file can be written");
}

/// The rows of the section `name { .. }`, wherever in the file it is.
fn rows(file: TokenStream, name: &str) -> Option<Vec<Row>> {
    let mut named = false;
    for token in file {
        match token {
            TokenTree::Group(group) if named && group.delimiter() == Delimiter::Brace => {
                return Some(section_rows(group.stream(), name == "pointwise"));
            }
            TokenTree::Group(group) => {
                if let Some(rows) = rows(group.stream(), name) {
                    return Some(rows);
                }
                named = false;
            }
            TokenTree::Ident(ident) => named = ident == name,
            _ => named = false,
        }
    }
    None
}

fn section_rows(tokens: TokenStream, pointwise: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // A doc comment: `#` and its group.
            TokenTree::Punct(punct) if punct.as_char() == '#' => drop(tokens.next()),
            TokenTree::Ident(name) => {
                let mut row = Row {
                    name: name.to_string(),
                    arity: String::new(),
                    is_test: false,
                    form: String::new(),
                    overloads: Vec::new(),
                };
                let mut bars = if pointwise { 0 } else { 2 };
                // The head: up to the expression's or the path's `=`; then up to the `;` that is
                // not the one between the expression's bars.
                for token in tokens.by_ref() {
                    match token {
                        TokenTree::Punct(punct) => match punct.as_char() {
                            '>' if bars == 0 => row.is_test = true,
                            '|' => bars += 1,
                            ';' if bars >= 2 => break,
                            _ => {}
                        },
                        TokenTree::Ident(word) if bars == 0 && row.arity.is_empty() => row.arity = word.to_string(),
                        TokenTree::Group(group) if bars == 0 && group.delimiter() == Delimiter::Bracket => {
                            overloads(group.stream(), &mut row);
                        }
                        _ => {}
                    }
                }
                rows.push(row);
            }
            other => panic!("unexpected `{other}` between the rows of the op table"),
        }
    }
    rows
}

fn overloads(tokens: TokenStream, row: &mut Row) {
    for token in tokens {
        match token {
            TokenTree::Ident(form) => row.form = form.to_string(),
            TokenTree::Literal(text) => row.overloads.push(text.to_string().trim_matches('"').to_string()),
            _ => {}
        }
    }
}

fn ops_header(rows: &[Row]) -> String {
    let mut text =
        String::from("// Generated from the op table, rust/kernels/src/ops.\n#pragma once\n#include <cstdint>\n\n");
    text.push_str("namespace rustorch {\n\nenum class Op : uint32_t {\n");
    for row in rows {
        // A trailing underscore keeps C++ keywords and alternative tokens out of the way.
        let _ = writeln!(text, "  {}_,", row.name);
    }
    text.push_str("};\n\n// Names for the profiler.\ninline constexpr const char* kOpNames[] = {\n");
    for row in rows {
        let _ = writeln!(text, "    \"rustorch::{}\",", row.name);
    }
    text.push_str("};\n\n}  // namespace rustorch\n");
    text
}

fn base(overload: &str) -> &str {
    overload.split('.').next().expect("split gives one part at least")
}

fn pointwise_headers(rows: &[Row]) -> String {
    let mut names = BTreeSet::new();
    for row in rows {
        for overload in &row.overloads {
            let base = base(overload);
            names.insert((base.strip_suffix('_').unwrap_or(base), row.form == "structured"));
        }
    }
    let mut text = String::from("// Generated from the op table, rust/kernels/src/ops.\n");
    for (name, structured) in names {
        let _ = writeln!(text, "#include <ATen/ops/{name}_ops.h>");
        if structured {
            let _ = writeln!(text, "#include <ATen/ops/{name}_meta.h>");
        }
    }
    text
}

/// One line an overload: `RUSTORCH_<KIND>(overload, op, meta, traits, is_test)`, where `traits` is the struct
/// of `at::_ops` and `meta` the class that checks and infers.
fn pointwise_rows(rows: &[Row]) -> String {
    let mut text = String::from("// Generated from the op table, rust/kernels/src/ops.\n");
    for row in rows {
        let Some(first) = row.overloads.first() else { continue };
        let meta = match row.form.as_str() {
            "structured" => format!("at::meta::structured_{}", first.replace('.', "_")),
            "plain" => format!("Plain{}{}", capitalised(&row.arity), if row.is_test { "Test" } else { "" }),
            form => panic!("row {}: the form `{form}` is neither structured nor plain", row.name),
        };
        for overload in &row.overloads {
            let qualifier = overload.split('.').nth(1).unwrap_or_default();
            let kind = if base(overload).ends_with('_') {
                "INPLACE"
            } else if qualifier.ends_with("out") || qualifier.starts_with("Out") || qualifier == "grad_input" {
                "OUT"
            } else {
                "FUNCTIONAL"
            };
            let traits = overload.replace('.', "_");
            let _ = writeln!(text, "RUSTORCH_{kind}(\"{overload}\", {}_, {meta}, {traits}, {})", row.name, row.is_test);
        }
    }
    text
}

fn capitalised(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}
