//! The generated files in the repository are what this version generates: `crds/` and the chart's
//! templates never drift from the types. `BATON_BLESS=1 cargo test --test golden` rewrites them.

use std::{fs, path::Path};

use baton::api::crds;

#[test]
fn generated_resources_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bless = std::env::var_os("BATON_BLESS").is_some();
    for file in crds::generate().unwrap() {
        let path = root.join(&file.path);
        if bless {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        assert!(found == file.text, "{} is not what is generated: BATON_BLESS=1 cargo test --test golden", file.path);
    }
    assert_eq!(strays(root), Vec::<String>::new(), "not generated");
}

/// What is in the folders of generated files and is not generated.
fn strays(root: &Path) -> Vec<String> {
    let generated: Vec<_> = crds::generate().unwrap().into_iter().map(|file| root.join(file.path)).collect();
    let folders = ["crds", "charts/baton/templates/crds"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !generated.contains(path)).map(|path| path.display().to_string()).collect()
}
