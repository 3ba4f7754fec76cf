//! The C library and the module for Fortran, installed as users install them: programs are compiled as `pkg-config` says,
//! and do what the same program in Rust does.
#![cfg(feature = "mpi")]

use crate::common::launch::named_for;
use crate::common::{BINARY, Ended, Launch, World};
use myriarch::fabric::environment;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Building the library takes minutes on a small machine; what takes longer hangs.
const BUILD_DEADLINE: Duration = Duration::from_secs(1_080);

/// Runs a part of the build.
fn built(mut command: Command) {
    let mut child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > BUILD_DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{command:?}: {status}");
}

/// The C library, installed into a folder of the world, and the example in Rust. Cargo builds them once, however many tests
/// ask for them.
struct Installed<'w> {
    world: &'w World,
    prefix: PathBuf,
    rust_example: PathBuf,
}

impl Installed<'_> {
    fn into_a_folder_of(world: &World) -> Installed<'_> {
        let built_into = Path::new(BINARY).parent().expect("the binary lies in a folder");
        let profile = match built_into.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // All packages, as the script of the tests names them: of some alone, other features would be built anew.
        cargo.args(["build", "--quiet", "--workspace", "--lib"]);
        cargo.args(["--example", "search", "--profile", profile]).current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.arg("--target-dir").arg(built_into.parent().expect("profiles lie in a folder"));
        built(cargo);
        let prefix = world.path("installed");
        let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install-c.sh"));
        install.arg(&prefix).arg(built_into).stdout(Stdio::null());
        built(install);
        Installed { world, prefix, rust_example: built_into.join("examples/search") }
    }

    /// What pkg-config says of the library.
    fn pkg_config(&self, question: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig")).args(question).arg("myriarch");
        let said = command.stdin(Stdio::null()).output().expect("there is a pkg-config");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles a program in the world. No machine may join a product and a sum into one step: results are compared.
    fn compiled(&self, compiler: &str, sources: &[PathBuf], libraries: &[String]) -> PathBuf {
        let mut command = Command::new(compiler);
        command.args(["-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-o", "program"]).args(sources);
        command.args(self.pkg_config(&["--cflags"])).args(libraries).stdin(Stdio::null());
        command.current_dir(self.world.path(""));
        let ended = self.world.spawn(command).wait().with(0);
        // The linker has more to say of static libraries than can be helped.
        assert!(!ended.stderr.contains("warning: "), "{}", ended.stderr);
        self.world.path("program")
    }

    /// What a program prints under mpiexec.
    fn said_by(&self, program: &Path, launch: Launch) -> String {
        self.run(program, launch, &[]).with(0).text().to_owned()
    }

    fn run(&self, program: &Path, launch: Launch, words: &[&str]) -> Ended {
        let mut command = launch.command_of(program, &self.world.path("launches"));
        let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = std::iter::once(self.prefix.join("lib")).chain(std::env::split_paths(&others));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap()).stdin(Stdio::null());
        command.args(words).current_dir(self.world.path(""));
        self.world.spawn(command).wait()
    }

    /// The lines of the example in Rust and of a program are the same, on one rank and on several.
    fn compare(&self, program: &Path) {
        for launch in [Launch::MPI_1, Launch::MPI_2, Launch::MPI_4] {
            let wanted = self.said_by(&self.rust_example, launch);
            assert_eq!(wanted.lines().count(), 13, "{wanted}");
            assert!(wanted.ends_with("sum of 1000 indexes: 499500\n"), "{wanted}");
            assert_eq!(self.said_by(program, launch), wanted, "{}", launch.name);
        }
    }
}

fn of_the_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The compiler of the MPI that this was built with.
fn compiler(tool: &str, variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| named_for(environment().library, tool))
}

#[test]
fn a_program_in_c_finds_what_the_same_program_in_rust_finds_with_either_library() {
    let world = World::new();
    let installed = Installed::into_a_folder_of(&world);
    for question in ["--libs", "--variable=static"] {
        let libraries = installed.pkg_config(&[question]);
        let source = of_the_project("examples/c/search.c");
        let program = installed.compiled(&compiler("mpicc", "MPICC"), &[source], &libraries);
        installed.compare(&program);
    }
}

#[test]
fn a_program_in_fortran_finds_what_the_same_program_in_rust_finds() {
    let compiler = compiler("mpifort", "MPIFORT");
    let found = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no {compiler}");
        return;
    }
    let world = World::new();
    let installed = Installed::into_a_folder_of(&world);
    let module = PathBuf::from(&installed.pkg_config(&["--variable=fortran"])[0]);
    let sources = [module, of_the_project("examples/fortran/search.f90")];
    let libraries = [vec!["-frecursive".to_owned()], installed.pkg_config(&["--libs"])].concat();
    installed.compare(&installed.compiled(&compiler, &sources, &libraries));
}

/// A function that ends its rank when it runs for the first time.
const LOSES_A_RANK: &str = r#"
#include <myriarch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int dies_once(struct myriarch_task *task)
{
    if (task->index == 57 && access("died", F_OK) != 0) {
        fclose(fopen("died", "w"));
        kill(getpid(), SIGKILL);
    }
    usleep(2000);
    return 0;
}

static void check(int code)
{
    if (code >= 0)
        return;
    fprintf(stderr, "%d: %s\n", code, myriarch_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char **argv)
{
    struct myriarch_program *program = myriarch_program_new();
    struct myriarch_session *session;
    struct myriarch_options options;
    struct myriarch_counts counts;
    uint32_t ranks[8];
    uint64_t bundle;
    int level, lost;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
    check(myriarch_register(program, "dies_once", dies_once));
    myriarch_options_init(&options);
    options.ranks_per_node = 2;
    options.dedicated_manager = 1;
    options.lost_after_seconds = 1;
    check(myriarch_enter(program, MPI_COMM_WORLD, &options, &session));
    if (!session) {
        puts("another rank came back");
        return 0;
    }
    check(myriarch_submit_array(session, "dies_once", 0, 600, NULL, 0, &bundle));
    check(myriarch_wait(session, bundle, &counts));
    check(lost = myriarch_lost(session, ranks, 8));
    check(myriarch_finish(session));
    if (!myriarch_without_all() || myriarch_enter(program, MPI_COMM_WORLD, NULL, &session) != MYRIARCH_ERROR_STATE)
        return 1;
    FILE *said = fopen("said", "w");
    fprintf(said, "%d of 600 ok, %d\n", (int)counts.ok, lost > 0 && ranks[0] > 1);
    if (argc > 1)
        MPI_Finalize();
    else
        myriarch_end(0);
    puts("MPI_Finalize came back");
    return 0;
}
"#;

#[test]
fn a_program_in_c_whose_rank_is_lost_goes_on_and_ends() {
    let world = World::new();
    let installed = Installed::into_a_folder_of(&world);
    world.write("loses.c", LOSES_A_RANK);
    let libraries = installed.pkg_config(&["--libs"]);
    let program = installed.compiled(&compiler("mpicc", "MPICC"), &[world.path("loses.c")], &libraries);
    for words in [&[] as &[&str], &["by MPI_Finalize"]] {
        let ended = installed.run(&program, Launch::OUTLIVES, words);
        assert!(!ended.text().contains("came back"), "{}", ended.text());
        assert_eq!(world.read("said"), "600 of 600 ok, 1\n", "{}", ended.stderr);
        for file in ["said", "died"] {
            std::fs::remove_file(world.path(file)).unwrap();
        }
    }
}

/// Every function of the header that the example leaves out, and every code that a caller can bring about.
const CASES: &str = r#"
#include <mpi.h>
#include <myriarch.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: not so: %s (last error: %s)\n", __LINE__, #what, myriarch_error()); \
            failures++; \
        } \
    } while (0)
#define SAYS(part) CHECK(strstr(myriarch_error(), part))

static int third_time(struct myriarch_task *task)
{
    myriarch_print(task, "attempt %u", (unsigned)task->attempt);
    return task->attempt < 3 ? 7 : 0;
}

static int says_where(struct myriarch_task *task)
{
    return myriarch_print(task, "%u cores", (unsigned)task->cores);
}

static void manager(struct myriarch_session *session)
{
    struct myriarch_task_options thrice = {0, 2}, wide = {1000, 0};
    struct myriarch_outcome outcome;
    struct myriarch_counts counts;
    uint64_t bundle = 77, other, index = 77;
    char *large = calloc(65, 1 << 20);
    int told;

    CHECK(myriarch_open(session, "unknown", NULL, &bundle) == MYRIARCH_ERROR_NO_FUNCTION);
    SAYS("no function \"unknown\"");
    CHECK(myriarch_open(session, "\xff", NULL, &bundle) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_open(session, NULL, NULL, &bundle) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_open(session, "third_time", NULL, NULL) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_open(NULL, "third_time", NULL, &bundle) == MYRIARCH_ERROR_ARGUMENT);
    SAYS("session is NULL");
    CHECK(myriarch_open(session, "third_time", &wide, &bundle) == MYRIARCH_ERROR_UNFIT);
    CHECK(bundle == 77);

    CHECK(myriarch_open(session, "third_time", NULL, &bundle) == MYRIARCH_OK);
    CHECK(myriarch_submit(session, bundle, NULL, 1, &index) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_submit(session, bundle, large, 65 << 20, &index) == MYRIARCH_ERROR_TOO_LARGE);
    CHECK(myriarch_submit(session, bundle + 1, "", 0, &index) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_submit_shell(session, bundle, "true", &index) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(index == 77);
    CHECK(myriarch_submit(session, bundle, NULL, 0, &index) == MYRIARCH_OK && index == 0);
    CHECK(myriarch_next(session, bundle, NULL) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_next(session, bundle, &outcome) == 1);
    CHECK(!outcome.ok && !strcmp(outcome.status, "exit:7") && outcome.attempts == 1);
    CHECK(outcome.value && outcome.value_bytes == 0);
    CHECK(outcome.error_output_bytes == 9 && !memcmp(outcome.error_output, "attempt 1", 9));
    CHECK(myriarch_next(session, bundle, &outcome) == 0);
    CHECK(myriarch_close(session, bundle) == MYRIARCH_OK);
    CHECK(myriarch_submit(session, bundle, "", 0, NULL) == MYRIARCH_ERROR_STATE);
    SAYS("closed");
    CHECK(myriarch_drop(session, bundle) == MYRIARCH_OK);
    CHECK(myriarch_drop(session, bundle) == MYRIARCH_ERROR_ARGUMENT);

    CHECK(myriarch_open(session, "third_time", &thrice, &bundle) == MYRIARCH_OK);
    CHECK(myriarch_submit(session, bundle, NULL, 0, NULL) == MYRIARCH_OK);
    while ((told = myriarch_try_next(session, bundle, &outcome)) == 0)
        ;
    CHECK(told == 1 && outcome.ok && outcome.attempts == 3);

    CHECK(myriarch_submit_array(session, "says_where", 5, (uint64_t)-1, NULL, 0, &other) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_submit_array(session, "says_where", 5, 100, "x", 1, &other) == MYRIARCH_OK);
    CHECK(myriarch_wait(session, other, &counts) == MYRIARCH_OK);
    CHECK(counts.ok == 100 && counts.failed == 0 && counts.cancelled == 0);
    for (index = 0; myriarch_next(session, other, &outcome) == 1; index++)
        CHECK(outcome.index >= 5 && outcome.index < 105 && !memcmp(outcome.value, "1 cores", 7));
    CHECK(index == 100);

    /* What was cancelled before it could start, and what was not, comes to all of it. */
    CHECK(myriarch_submit_array(session, "builtin:sleep", 0, 10000, "500", 3, &other) == MYRIARCH_OK);
    CHECK(myriarch_cancel(session, other, 5000, (uint64_t)-1) == MYRIARCH_OK);
    CHECK(myriarch_progress(session) == MYRIARCH_OK);
    CHECK(myriarch_wait(session, other, &counts) == MYRIARCH_OK);
    CHECK(counts.ok >= 5000 && counts.cancelled > 0 && counts.ok + counts.cancelled == 10000 && counts.failed == 0);

    CHECK(myriarch_open_processes(session, NULL, &other) == MYRIARCH_OK);
    CHECK(myriarch_submit(session, other, "", 0, NULL) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_submit_shell(session, other, "echo out; echo err >&2; exit 3", &index) == MYRIARCH_OK && index == 0);
    CHECK(myriarch_next(session, other, &outcome) == 1 && !strcmp(outcome.status, "exit:3"));
    CHECK(outcome.value_bytes == 4 && !memcmp(outcome.value, "out\n", 4));
    CHECK(outcome.error_output_bytes == 4 && !memcmp(outcome.error_output, "err\n", 4));
    free(large);
}

/* Of a session in a folder: the second time, the first task is the same and the second is not. */
static void kept(struct myriarch_session *session, int again)
{
    struct myriarch_outcome outcome;
    uint64_t bundle, index;

    CHECK(myriarch_open(session, "third_time", NULL, &bundle) == MYRIARCH_OK);
    CHECK(myriarch_submit(session, bundle, "abc", 3, &index) == MYRIARCH_OK && index == 0);
    CHECK(myriarch_next(session, bundle, &outcome) == 1 && !strcmp(outcome.status, "exit:7"));
    CHECK(myriarch_submit(session, bundle, again ? "xyz" : "def", 3, NULL) ==
          (again ? MYRIARCH_ERROR_DIFFERS : MYRIARCH_OK));
    if (again)
        SAYS("task 1 of bundle 0");
}

int main(int argc, char **argv)
{
    struct myriarch_program *program;
    struct myriarch_session *session = NULL;
    struct myriarch_options options;
    int rank, ranks;

    CHECK(!strcmp(myriarch_error(), ""));
    program = myriarch_program_new();
    myriarch_options_init(&options);
    CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_ERROR_STATE);
    SAYS("MPI is not running");
    CHECK(myriarch_prepare() == MYRIARCH_OK);
    /* With less than MPI_THREAD_SERIALIZED. */
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);

    CHECK(myriarch_register(program, "third_time", third_time) == MYRIARCH_OK);
    CHECK(myriarch_register(program, "third_time", third_time) == MYRIARCH_ERROR_ARGUMENT);
    SAYS("registered before");
    CHECK(myriarch_register(program, "builtin:mine", third_time) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_register(program, "nothing", NULL) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_register(NULL, "third_time", third_time) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_register(program, "says_where", says_where) == MYRIARCH_OK);
    CHECK(myriarch_enter(program, MPI_COMM_WORLD, NULL, NULL) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_enter(NULL, MPI_COMM_WORLD, NULL, &session) == MYRIARCH_ERROR_ARGUMENT);
    CHECK(myriarch_enter(program, MPI_COMM_NULL, NULL, &session) == MYRIARCH_ERROR_ARGUMENT);
    options.pin = 99;
    CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_ERROR_ARGUMENT);
    options.pin = MYRIARCH_PIN_NONE;
    options.slots_per_node = 4;

    CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_OK);
    CHECK(!session == (rank > 0));
    if (session) {
        manager(session);
        CHECK(myriarch_leave(session) == MYRIARCH_OK);
    }
    CHECK(myriarch_finish(NULL) == MYRIARCH_ERROR_ARGUMENT);

    options.dir = "kept";
    options.resume = 1;
    options.sync_seconds = -1;
    for (int again = 0; again < 2; again++) {
        CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_OK);
        if (session) {
            kept(session, again);
            CHECK(myriarch_finish(session) == MYRIARCH_OK);
        }
    }
    options.resume = 0;
    CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_ERROR_UNFIT);
    SAYS("holds a session already");
    options.dir = NULL;

    /* Ranks that have registered other functions are told so on all of them. */
    if (rank == 0)
        CHECK(myriarch_register(program, "manager's own", third_time) == MYRIARCH_OK);
    if (ranks > 1) {
        CHECK(myriarch_enter(program, MPI_COMM_WORLD, &options, &session) == MYRIARCH_ERROR_UNFIT);
        CHECK(!session);
        SAYS("other functions");
    }
    myriarch_program_free(program);
    myriarch_program_free(NULL);
    MPI_Allreduce(MPI_IN_PLACE, &failures, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d failures\n", failures);
    MPI_Finalize();
    return failures > 0;
}
"#;

#[test]
fn callers_in_c_are_told_by_codes_and_words_what_is_wrong() {
    let world = World::new();
    let installed = Installed::into_a_folder_of(&world);
    world.write("cases.c", CASES);
    let libraries = installed.pkg_config(&["--libs"]);
    let program = installed.compiled(&compiler("mpicc", "MPICC"), &[world.path("cases.c")], &libraries);
    for launch in [Launch::MPI_1, Launch::MPI_4] {
        assert_eq!(installed.said_by(&program, launch), "0 failures\n", "{}", launch.name);
    }
}
