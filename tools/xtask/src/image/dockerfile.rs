//! The Dockerfile builds the images that `cargo xtask image` builds.

use std::collections::BTreeMap;

use control_plane::oci::Config;

use super::contents::{ARM64_PAGES, CERTIFICATES, FLAGS, Program, config};
use super::{AUDITABLE, root};

const PROGRAMS: [(&str, Program); 2] = [("operator", Program::Operator), ("sandbox", Program::Sandbox)];

/// A stage of the Dockerfile: what it begins with, and its instructions with their arguments.
struct Stage {
    parent: String,
    instructions: Vec<(String, String)>,
}

fn text() -> String {
    std::fs::read_to_string(root().join("Dockerfile")).unwrap()
}

/// The stages by their names.
fn stages(text: &str) -> BTreeMap<String, Stage> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let mut stages = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            let words: Vec<_> = rest.split(' ').filter(|word| !word.starts_with("--")).collect();
            let &[parent, "AS", name] = words.as_slice() else { panic!("{line}") };
            stages.insert(name.to_owned(), Stage { parent: parent.to_owned(), instructions: Vec::new() });
            current = Some(name.to_owned());
        } else {
            let stage = current.as_ref().and_then(|name| stages.get_mut(name)).unwrap();
            stage.instructions.push((instruction.to_owned(), rest.trim().to_owned()));
        }
    }
    stages
}

/// All instructions of a stage, those of its parents first. The first parent is an empty image.
fn instructions<'a>(stages: &'a BTreeMap<String, Stage>, name: &str) -> Vec<(&'a str, &'a str)> {
    let stage = &stages[name];
    let mut all = match stage.parent.as_str() {
        "scratch" => Vec::new(),
        parent => instructions(stages, parent),
    };
    all.extend(stage.instructions.iter().map(|(name, rest)| (name.as_str(), rest.as_str())));
    all
}

/// How a container of a stage runs, with the defaults of the build's arguments.
fn described(instructions: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    let mut arguments = Vec::new();
    for &(instruction, rest) in instructions {
        match instruction {
            "ARG" => arguments.push(rest.split_once('=').unwrap()),
            "USER" => rest.clone_into(&mut config.user),
            "ENV" => config.env.push(rest.to_owned()),
            "EXPOSE" => {
                config.exposed_ports.insert(rest.to_owned());
            }
            "ENTRYPOINT" => config.entrypoint = serde_json::from_str(rest).unwrap(),
            "CMD" => config.cmd = serde_json::from_str(rest).unwrap(),
            "LABEL" => {
                let (name, value) = rest.split_once('=').unwrap();
                let value: String = serde_json::from_str(value).unwrap();
                let argument = arguments.iter().find(|(name, _)| value == format!("${name}"));
                let value = argument.map_or(value.clone(), |(_, default)| (*default).to_owned());
                config.labels.insert(name.to_owned(), value);
            }
            "COPY" => {}
            other => panic!("{other}"),
        }
    }
    config
}

#[test]
fn the_dockerfile_has_the_user_the_labels_and_the_entry_point_of_the_image() {
    let stages = stages(&text());
    for (stage, program) in PROGRAMS {
        assert_eq!(described(&instructions(&stages, stage)), config(program, ""), "{stage}");
    }
}

#[test]
fn the_dockerfile_puts_the_same_files_into_the_image() {
    let stages = stages(&text());
    for (stage, program) in PROGRAMS {
        let mut copied: Vec<_> = instructions(&stages, stage)
            .into_iter()
            .filter(|(instruction, _)| *instruction == "COPY")
            .map(|(_, rest)| rest.rsplit_once(' ').unwrap().1.trim_start_matches('/'))
            .collect();
        copied.sort_unstable();
        let image = super::contents::image(program, &[], "", Vec::new());
        let mut files: Vec<_> = image.files.iter().map(|file| file.path.as_str()).collect();
        files.sort_unstable();
        assert_eq!(copied, files, "{stage}");
        assert!(files.contains(&CERTIFICATES));
    }
}

#[test]
fn the_dockerfile_builds_with_the_flags_and_the_tools_of_the_image() {
    let text = text();
    let stages = stages(&text);
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let (channel, _) = channel.split_once('"').unwrap();
    assert_eq!(stages["build"].parent, format!("rust:{channel}-bookworm"));
    assert!(text.contains(&format!("RUSTFLAGS=\"{FLAGS}\"\n")));
    assert!(
        text.contains(&format!(
            "cargo install {} --version {} --locked\n",
            AUDITABLE.name, AUDITABLE.version
        ))
    );
    assert!(text.contains("cargo auditable build --release --locked "));
    let (name, value) = ARM64_PAGES;
    let arm64 = text.lines().find(|line| line.trim_start().starts_with("arm64)")).unwrap();
    assert!(arm64.contains(&format!("export {name}={value} ;;")), "{arm64}");
}

#[test]
fn the_last_stage_of_the_dockerfile_is_the_operator() {
    let text = text();
    let last = text.lines().rfind(|line| line.starts_with("FROM ")).unwrap();
    assert!(last.ends_with(" AS operator"), "{last}");
}
