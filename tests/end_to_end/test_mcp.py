"""The MCP server, driven by the SDK's own client over standard input and output."""

import sys
import time
from pathlib import Path
from typing import Any

import anyio
from conftest import agent_loop, clean_env, git, make_repo, python

SCRIPT = 'SCRIPT = {{"return": {0}, "noise": 0.1, "seconds": {1}, "end": "{2}"}}\n'


def test_a_client_drives_a_session_from_begin_to_export(tmp_path: Path) -> None:
    from mcp import Client, StdioServerParameters

    train = tmp_path / "train.py"
    train.write_text(SCRIPT.format(10.0, 0.05, "ok"))
    repo = make_repo(tmp_path / "repo", train)
    argv, env = ["agent_loop.py", "mcp", "--runner", "scripted"], clean_env(tmp_path)
    server = StdioServerParameters(command=sys.executable, args=argv, cwd=repo, env=env)

    async def drive() -> None:
        async with Client(server) as client:

            async def call(tool: str, **arguments: Any) -> Any:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                text = result.content[0].text
                return text if tool in ("show", "history") else result.structured_content

            async def decided(id: str) -> dict[str, Any]:
                end = time.monotonic() + 90
                answer = await call("wait", id=id, seconds=20)
                while answer["state"] not in ("decided", "refused") and time.monotonic() < end:
                    answer = await call("wait", id=id, seconds=20)
                return answer

            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {"begin", "try", "wait", "show", "history", "status", "export"}
            begun = await call("begin", env_id="Pendulum-v1", tag="t")
            assert begun["session"] == "t"
            (repo / "train.py").write_text(SCRIPT.format(20.0, 0.05, "ok"))
            left = await call("try", message="twice as good\nbecause 20 is twice 10", tag="t")
            answer = await decided(left["id"])
            assert answer["outcome"] == "keep" and answer["beside"] == 0
            assert "#1 keep" in await call("show", experiment=left["id"])
            assert "twice as good" in await call("history")
            assert (await call("status"))["incumbent"] == 1
            exported = await call("export", experiment="best")
            assert exported["train_py"] == (repo / "train.py").read_text()
            assert exported["commit"] == git(repo, "rev-parse", "autoresearch/t")
            assert all((repo / name).is_file() for name in exported["files"])

            refused = await client.call_tool("show", {"experiment": "99"})
            assert refused.is_error and "a number up to 1" in refused.content[0].text

            # a call that waits holds no other up
            (repo / "train.py").write_text(SCRIPT.format(30.0, 60.0, "ok"))
            slow = await call("try", message="slow", tag="t")
            ends: list[str] = []

            async def note(tool: str, **arguments: Any) -> None:
                await call(tool, **arguments)
                ends.append(tool)

            async with anyio.create_task_group() as group:
                group.start_soon(lambda: note("wait", id=slow["id"], seconds=10))
                await anyio.sleep(0.5)
                group.start_soon(lambda: note("status"))
            assert ends == ["status", "wait"]

    try:
        anyio.run(drive)
    finally:
        agent_loop(repo, "stop", env=clean_env(tmp_path))


def test_without_the_package_one_sentence_says_what_to_install() -> None:
    code = "import sys; sys.modules['mcp'] = None; from autorl.cli.main import main; main()"
    done = python("-c", code, "mcp")
    assert done.returncode == 2 and "uv sync --extra mcp" in done.stderr
    assert len(done.stderr.splitlines()) == 1
