//! Holds the crate to "the compiler proves it": every program in `tests/ui/` is a misuse that must not
//! compile, beside the nearest program that must.
//!
//! rustc is run directly. Only error codes and names are compared, never sentences, so that another
//! version of the compiler, which words its messages otherwise, cannot fail this test. A program says
//! in its first lines what is expected:
//!
//! ```text
//! // What happens at run time where this is allowed.
//! //@ error: E0277            the code of every error; `none` for errors that have no code
//! //@ mentions: SomeName      a name that the compiler has to give as a reason; any number of times
//! //@ says: lifetime          with `none` only: a word of each error
//! ```

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

/// A suite that has become smaller than this has lost something.
const FEWEST_PROGRAMS: usize = 60;

#[test]
fn every_misuse_is_rejected_and_its_twin_accepted() {
    let mut programs: Vec<PathBuf> = fs::read_dir(project().join("tests/ui"))
        .expect("tests/ui is part of the package")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.strip_prefix(project()).expect("it is below").to_owned())
        .collect();
    programs.sort();
    assert!(
        programs.len() >= FEWEST_PROGRAMS,
        "{} programs in tests/ui, expected at least {FEWEST_PROGRAMS}",
        programs.len()
    );

    let compiler = Compiler::find();
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, NonZero::get) {
            scope.spawn(|| {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(&compiler, program) {
                        failures.lock().expect("no checker panics").push(failure);
                    }
                }
            });
        }
    });

    let mut failures = failures.into_inner().expect("no checker panics");
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {} programs are not judged as they say:\n\n{}",
        failures.len(),
        programs.len(),
        failures.join("\n")
    );
}

/// What is wrong with a program, if anything.
fn check(compiler: &Compiler, program: &Path) -> Result<(), String> {
    let source = fs::read_to_string(project().join(program))
        .map_err(|error| format!("{}\n  cannot be read: {error}\n", program.display()))?;
    let expected = Expected::parse(&source)
        .map_err(|problem| format!("{}\n  header: {problem}\n", program.display()))?;
    let misuse = compiler.compile(program, Arm::Misuse);
    let twin = compiler.compile(program, Arm::Twin);
    judge_misuse(&expected, &misuse)
        .map_err(|problem| (format!("{expected}"), problem, misuse))
        .and_then(|()| {
            judge_twin(&twin)
                .map_err(|problem| ("no error without the misuse".into(), problem, twin))
        })
        .map_err(|(expected, problem, outcome)| {
            let program = program.display();
            let said = if outcome.said.is_empty() { "nothing\n" } else { &outcome.said };
            format!(
                "{program}\n  expected: {expected}\n  but: {problem}\n  the compiler said:\n{said}"
            )
        })
}

fn judge_misuse(expected: &Expected, outcome: &Outcome) -> Result<(), String> {
    if outcome.success {
        return Err("THE MISUSE COMPILES".into());
    }
    if outcome.errors.is_empty() {
        return Err("the compiler failed without naming an error".into());
    }
    for error in &outcome.errors {
        if error.code != expected.code {
            return Err(format!("an error has the code {:?}", error.code));
        }
        if let Some(word) = expected.says.as_ref().filter(|word| !error.words.contains(*word)) {
            return Err(format!("an error does not say {word:?}"));
        }
    }
    for name in &expected.mentions {
        if !outcome.errors.iter().any(|error| error.words.contains(name)) {
            return Err(format!("no error mentions `{name}`"));
        }
    }
    Ok(())
}

fn judge_twin(outcome: &Outcome) -> Result<(), String> {
    if outcome.success && outcome.errors.is_empty() {
        return Ok(());
    }
    Err("the program does not compile without the misuse either, so it proves nothing".into())
}

/// What a program's header says about its misuse.
#[derive(Debug)]
struct Expected {
    code: String,
    mentions: Vec<String>,
    says: Option<String>,
}

impl Expected {
    fn parse(source: &str) -> Result<Self, String> {
        if !source.lines().next().is_some_and(|line| line.starts_with("// ") && line.len() > 20) {
            return Err("the first line does not say what goes wrong where this is allowed".into());
        }
        for arm in ["#[cfg(misuse)]", "#[cfg(not(misuse))]"] {
            if !source.contains(arm) {
                return Err(format!("there is no {arm}"));
            }
        }
        let (mut code, mut mentions, mut says) = (None, Vec::new(), None);
        for line in source.lines().filter_map(|line| line.strip_prefix("//@")) {
            let (key, value) = line.split_once(": ").ok_or(format!("no value in `//@{line}`"))?;
            let value = value.trim().to_owned();
            let repeated = match key.trim() {
                "error" => code.replace(value).is_some(),
                "says" => says.replace(value).is_some(),
                "mentions" => {
                    mentions.push(value);
                    false
                }
                unknown => return Err(format!("unknown key {unknown:?}")),
            };
            if repeated {
                return Err(format!("two lines for {key:?}"));
            }
        }
        let code = code.ok_or("no `//@ error:`")?;
        if (code == NO_CODE) != says.is_some() {
            return Err("`says` belongs to errors without a code, and they need it".into());
        }
        Ok(Self { code, mentions, says })
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "only errors with the code {:?}", self.code)?;
        if let Some(word) = &self.says {
            write!(f, ", each saying {word:?}")?;
        }
        for name in &self.mentions {
            write!(f, ", mentioning `{name}`")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Arm {
    Misuse,
    Twin,
}

/// How one run of the compiler ended.
struct Outcome {
    success: bool,
    errors: Vec<Diagnostic>,
    /// For people.
    said: String,
}

/// Stands for the code of errors that have none; borrow errors that are only about two lifetimes do
/// not, nor those about futures.
const NO_CODE: &str = "none";

struct Diagnostic {
    code: String,
    /// Message, labels and notes, without the source lines that the compiler quotes: a name that
    /// occurs in the program itself is no reason.
    words: String,
}

impl Outcome {
    fn parse(success: bool, stderr: &str) -> Self {
        let mut outcome = Self { success, errors: Vec::new(), said: String::new() };
        for line in stderr.lines() {
            let Ok(diagnostic) = serde_json::from_str::<Value>(line) else {
                // A crash of the compiler, for instance.
                let _ = writeln!(outcome.said, "{line}");
                continue;
            };
            outcome.said += diagnostic["rendered"].as_str().unwrap_or_default();
            let code = diagnostic["code"]["code"].as_str();
            let has_place = diagnostic["spans"].as_array().is_some_and(|spans| !spans.is_empty());
            // The summary at the end is an "error" too, with neither code nor place.
            let is_summary = code.is_none() && !has_place;
            if diagnostic["level"] == "error" && !is_summary {
                let mut words = String::new();
                collect_words(&diagnostic, &mut words);
                let code = code.unwrap_or(NO_CODE).to_owned();
                outcome.errors.push(Diagnostic { code, words });
            }
        }
        outcome
    }
}

fn collect_words(diagnostic: &Value, words: &mut String) {
    let list = |key| diagnostic[key].as_array().into_iter().flatten();
    let message = diagnostic["message"].as_str();
    for text in message.into_iter().chain(list("spans").filter_map(|span| span["label"].as_str())) {
        *words += text;
        words.push('\n');
    }
    for child in list("children") {
        collect_words(child, words);
    }
}

struct Compiler {
    rustc: OsString,
    dependencies: PathBuf,
    tenure: PathBuf,
    output: TempDir,
}

impl Compiler {
    /// The compiler that cargo uses, and the library that this test was linked with.
    fn find() -> Self {
        let executable = std::env::current_exe().expect("a running test is a file");
        let dependencies = executable.parent().expect("a file is in a directory").to_owned();

        // Other features and other flags leave their own copies there. The newest is right: before
        // it started this test, cargo made sure that the copy linked here is no older than the
        // sources, so one that was written later was made from the same sources or from later ones.
        let library = fs::read_dir(&dependencies)
            .expect("the directory of a running test can be read")
            .filter_map(Result::ok)
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libtenure-") && name.ends_with(".rlib")
            })
            .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
            .unwrap_or_else(|| panic!("no libtenure-*.rlib in {}", dependencies.display()));

        // A copy, so that a build in an editor meanwhile does not change it under the compilers.
        let output = tempfile::tempdir().expect("a temporary directory can be made");
        let tenure = output.path().join(library.file_name());
        fs::copy(library.path(), &tenure).expect("the library can be copied");

        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Self { rustc, dependencies, tenure, output }
    }

    fn compile(&self, program: &Path, arm: Arm) -> Outcome {
        let name = program.file_stem().expect("a program has a name").to_string_lossy();
        let arm_name = match arm {
            Arm::Misuse => "misuse",
            Arm::Twin => "twin",
        };
        let metadata = self.output.path().join(format!("lib{name}-{arm_name}.rmeta"));
        let with_path = |option: &str, path: &Path| {
            let mut option = OsString::from(option);
            option.push(path);
            option
        };

        let mut command = Command::new(&self.rustc);
        command
            .current_dir(project())
            .args(["--edition=2024", "--crate-type=lib", "--crate-name=program"])
            .args(["--check-cfg=cfg(misuse)", "--deny=unexpected_cfgs"])
            .args(["--error-format=json", "--diagnostic-width=1000"])
            .arg(with_path("--emit=metadata=", &metadata))
            .arg(with_path("-Ldependency=", &self.dependencies))
            .arg(with_path("--extern=tenure=", &self.tenure))
            .arg(program);
        if let Arm::Misuse = arm {
            command.arg("--cfg=misuse");
        }
        let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", self.rustc));
        Outcome::parse(output.status.success(), &String::from_utf8_lossy(&output.stderr))
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Programs that the check above must not let pass, compiled and judged as the real ones are.
#[test]
fn the_check_itself_can_fail() {
    const MARKER: &str = "GuardBelongsToTheThreadThatCheckedItOut";
    let marked = format!("//@ error: E0277\n//@ mentions: {MARKER}");

    let compiler = Compiler::find();
    let directory = tempfile::tempdir().unwrap();
    let verdict = |name: &str, header: &str, misuse: &str, twin: &str| {
        let file = directory.path().join(name).with_extension("rs");
        let source = format!(
            "// Something goes wrong at run time.\n{header}\n\
             pub fn program(pool: &tenure::Pool) {{\n\
             let guard = pool.write_owned().unwrap();\n\
             #[cfg(misuse)]\n{misuse};\n\
             #[cfg(not(misuse))]\n{twin};\n}}\n"
        );
        fs::write(&file, source).unwrap();
        check(&compiler, &file)
    };
    let complaint = |name: &str, header: &str, misuse: &str, twin: &str| {
        verdict(name, header, misuse, twin).expect_err(name)
    };
    let sends_guard = "drop(std::thread::spawn(move || drop(guard)))";
    let sends_other = format!(
        "drop(std::thread::spawn({{ drop(guard); let rc = std::rc::Rc::new(1); \
         move || drop::<std::rc::Rc<i32>>(rc /* {MARKER} */) }}))"
    );
    let moves_twice = "{ drop(guard); drop(guard) }";

    // The right one first: if this failed, the complaints below would prove nothing.
    verdict("right", &marked, sends_guard, "drop(guard)").unwrap();

    let text = complaint("compiles", "//@ error: E0382", "drop(guard)", "drop(guard)");
    assert!(text.contains("THE MISUSE COMPILES"), "{text}");
    let text = complaint("other_code", &marked, moves_twice, "drop(guard)");
    assert!(text.contains("the code \"E0382\"") && text.contains("moved value"), "{text}");
    let text = complaint("no_marker", &marked, &sends_other, "drop(guard)");
    assert!(text.contains(&format!("no error mentions `{MARKER}`")), "{text}");
    let both = format!(
        "{{ {moves_twice}; let reader = pool.read().unwrap(); \
         let statement = reader.prepare(\"SELECT 1\"); drop(reader); drop(statement) }}"
    );
    let text = complaint("one_code_too_many", "//@ error: E0382", &both, "drop(guard)");
    assert!(text.contains("the code \"E0505\"") && text.contains("E0382"), "{text}");
    let text = complaint("wrong_twin", &marked, sends_guard, sends_guard);
    assert!(text.contains("does not compile without the misuse"), "{text}");
    let other_word = "//@ error: none\n//@ says: nonsense";
    let escapes = "{ let f: fn(&str) -> &'static str = |text: &str| -> &'static str { text }; f }";
    let text = complaint("other_word", other_word, escapes, "drop(guard)");
    assert!(text.contains("does not say \"nonsense\""), "{text}");
    let text = complaint("misspelt", &marked, sends_guard, "#[cfg(misues)]\ndrop(guard)");
    assert!(text.contains("misues"), "{text}");

    let text = complaint("no_expectation", "", sends_guard, "drop(guard)");
    assert!(text.contains("no `//@ error:`"), "{text}");
    let text = complaint("no_word", "//@ error: none", sends_guard, "drop(guard)");
    assert!(text.contains("`says` belongs to"), "{text}");
    let text = complaint("unknown_key", "//@ mention: Guard", sends_guard, "drop(guard)");
    assert!(text.contains("unknown key \"mention\""), "{text}");
    let one_arm =
        "// Something goes wrong at run time.\n//@ error: E0277\n#[cfg(misuse)]\nfn f() {}";
    assert!(Expected::parse(one_arm).unwrap_err().contains("#[cfg(not(misuse))]"));
}

/// A compiler that crashes has not rejected anything.
#[test]
fn a_failure_without_a_diagnosis_is_not_taken_for_a_rejection() {
    let expected = Expected { code: NO_CODE.into(), mentions: Vec::new(), says: None };
    let summary = r#"{"message":"aborting","code":null,"level":"error","spans":[],"children":[]}"#;
    for stderr in ["", "thread 'rustc' panicked", summary] {
        let outcome = Outcome::parse(false, stderr);
        assert!(judge_misuse(&expected, &outcome).is_err(), "{stderr:?}");
        assert!(judge_twin(&outcome).is_err(), "{stderr:?}");
    }
}
