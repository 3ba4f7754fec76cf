//! Shell lines: the reference is what `sh -c LINE` gives.

use super::{executor, line, run};
use crate::task::Status;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Each is run by `sh -c` and by the executor in the same folder; none depends on the time or on being alone.
const LINES: &[&str] = &[
    "echo hello",
    "echo 'single  quotes' \"double $((1+1))\"",
    "printf '%s\\n' a b",
    "printf 'no newline'",
    "true",
    "false",
    "exit 7",
    "exit 300",
    ":",
    "",
    "   ",
    "# a comment",
    "sort plain.txt",
    "cat plain.txt | tr ab xy",
    "cat < plain.txt",
    "cat no-such-file",
    "ls -1 no-such-file plain.txt",
    "head -c 3 plain.txt",
    "cat",
    "cat -- plain.txt",
    "no-such-program-anywhere a b",
    "./no-such-program",
    "/no/such/program",
    "./a-folder",
    "./not-executable",
    "./no-interpreter-line x",
    "./missing-interpreter",
    "./binary-rubbish",
    "a-folder/x",
    "kill -9 $$",
    "kill -TERM $$",
    "sh -c 'kill -SEGV $$'",
    "sh -c 'kill -9 $$'; echo $?",
    "echo to stderr >&2; exit 2",
    "A=1; echo $A",
    "A=1 sh -c 'echo $A'",
    "A=1",
    "echo ünïcödé →",
    "echo \u{1F600} | wc -c",
    "echo *.txt",
    "echo ~root",
    "echo {a,b}",
    "echo $((7 * 6))",
    "if true; then echo yes; fi",
    "for i in 1 2 3; do echo $i; done",
    "! true",
    "f() { echo in f \"$@\"; }; f 1 2",
    "cd a-folder && pwd | sed 's,.*/,,'",
    "pwd | sed 's,.*/,,'",
    "test -f plain.txt",
    "[ 1 = 2 ]",
    "echo a; echo b >&2; echo c",
    "(exit 5)",
    "exec sh -c 'exit 6'",
    "trap 'echo bye' EXIT; exit 3",
    "echo \"unclosed",
    "if",
    ")",
    "echo a && false || echo b",
    "sleep 0 & wait; echo $?",
    "command -v sh",
    "umask",
    "echo $0",
    "echo $# $@",
    "echo \"$PATH\"",
    "env | grep -c ^PATH=",
    "printenv HOME",
    "ulimit -n",
    "-c",
    "-x",
    "basename /a/b/c.txt .txt",
    "  basename\t /x/y  ",
    "expr 3 + 4",
    "seq 1 5",
    "seq -s , 1 3",
    "echo a\necho b",
    "cat <<E\nhere $((1+2))\nE",
    "seq 1 100000 | tail -n 1",
    "head -c 200000 /dev/zero | wc -c",
    "dirname a=b/c",
    "sh -c 'exit 9'",
    "sh",
    "tr a b",
    "yes | head -n 2",
    "echo 'a\tb'",
    "printf '\\0\\377' | od -c",
    "uname -s",
    "test 1 -eq",
    "let x=1",
    "[[ a == a ]]",
    "source ./plain.txt",
    "readlink /proc/self/fd/0",
    "cat /proc/self/comm",
    "id -u",
    "ps -o comm= -p $$",
];

/// The folder in which the lines are run.
fn a_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("no-interpreter-line", 0o755, "echo \"script $1\"; exit 4\n");
    file("missing-interpreter", 0o755, "#!/no/such/interpreter\n");
    file("not-executable", 0o644, "echo never\n");
    file("binary-rubbish", 0o755, "\x7fELF rubbish");
    file("plain.txt", 0o644, "b\na\n");
    std::fs::create_dir(folder.path().join("a-folder")).unwrap();
    folder
}

#[test]
fn every_line_gives_what_sh_gives() {
    let folder = a_folder();
    let mut executor = executor();
    for text in LINES {
        let mut reference = Command::new("sh");
        reference.arg("-c").arg(text).current_dir(folder.path()).env("PWD", folder.path()).stdin(Stdio::null());
        let expected = reference.output().unwrap();
        let status = match (expected.status.code(), expected.status.signal()) {
            (Some(0), _) => Status::Ok,
            (Some(code), _) => Status::Exit(code),
            (None, signal) => Status::Signal(signal.unwrap()),
        };
        let mut task = line(text);
        task.cwd = Some(folder.path().to_str().unwrap().into());
        let ended = run(&mut executor, &task);
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(lossy(&ended.stdout.bytes), lossy(&expected.stdout), "stdout of {text:?}");
        assert_eq!(lossy(&ended.stderr.bytes), lossy(&expected.stderr), "stderr of {text:?}");
        assert_eq!(ended.status, status, "status of {text:?}");
        assert!(!ended.killed && !ended.crashed);
    }
}
