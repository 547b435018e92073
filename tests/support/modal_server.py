"""A Modal server on loopback, for the real client: `modal run` and `deploy` without an account.

    with ModalServer(work) as server:
        subprocess.run(["modal", "run", "modal_app.py"], env=os.environ | server.environment)

It builds and runs nothing: it answers each gRPC request as Modal's would be answered, keeps what it
received (images, function definitions, calls), and gives every call's arguments to `work`, a
function of this process, in a thread. What it does not do: schedule, authenticate, or stand for how
the real platform behaves beyond these answers.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
import grpclib
import grpclib.server
from google.protobuf import empty_pb2
from modal_proto import api_grpc, api_pb2

PAGE = "http://127.0.0.1/app"
SUCCESS = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS


class Call:
    """One function call: its arguments, and what became of it."""

    def __init__(self, function_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.function_id, self.args, self.kwargs = function_id, args, kwargs
        self.done, self.value, self.error, self.cancelled = threading.Event(), None, "", False


class ModalServer(api_grpc.ModalClientBase):
    """Answers what `modal run`, `App.deploy`, `Function.spawn` and `FunctionCall` ask."""

    def __init__(self, work: Callable[..., Any]):
        self.work = work
        self.images: list[api_pb2.Image] = []
        self.functions: list[api_pb2.Function] = []
        self.options: dict[str, api_pb2.FunctionOptions] = {}  # by the id of the bound function
        self.calls: dict[str, Call] = {}
        self.deployed: list[str] = []
        self.asked: list[str] = []  # every request's name, in order
        self.metadata = api_pb2.FunctionHandleMetadata(
            function_name="measure",
            function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
            definition_id="de-1",
            app_id="ap-1",
            supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE],
            supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE],
        )

    # -- where it listens --------------------------------------------------------------------------

    def __enter__(self) -> "ModalServer":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

        async def begin() -> None:
            self._server = grpclib.server.Server([self])
            await self._server.start("127.0.0.1", self.port)

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the client must find in its environment to come here."""
        token = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"}
        return token | {"MODAL_SERVER_URL": f"http://127.0.0.1:{self.port}"}

    # -- the app and what it is made of ------------------------------------------------------------

    async def AppPublish(self, stream: Any) -> None:
        answer = api_pb2.AppPublishResponse(url=PAGE, deployed_at=time.time())
        request = await self._answer(stream, answer)
        if request.app_state == api_pb2.APP_STATE_DEPLOYED:
            self.deployed.append(request.name)

    async def ImageGetOrCreate(self, stream: Any) -> None:
        success, name = api_pb2.GenericResult(status=SUCCESS), f"im-{len(self.images) + 1}"
        answer = api_pb2.ImageGetOrCreateResponse(image_id=name, result=success)
        request = await self._answer(stream, answer)
        self.images.append(request.image)

    async def FunctionPrecreate(self, stream: Any) -> None:
        known = {"function_id": "fu-1", "handle_metadata": self.metadata}
        await self._answer(stream, api_pb2.FunctionPrecreateResponse(**known))

    async def FunctionCreate(self, stream: Any) -> None:
        request = await self._receive(stream)
        self.functions.append(request.function)
        known = {"function_id": "fu-1", "handle_metadata": self.metadata}
        known |= {"function": request.function, "function_data": described(request.function)}
        await stream.send_message(api_pb2.FunctionCreateResponse(**known))

    async def FunctionGet(self, stream: Any) -> None:
        function = described(self.functions[-1] if self.functions else api_pb2.Function())
        known = {"function_id": "fu-1", "handle_metadata": self.metadata, "function": function}
        await self._answer(stream, api_pb2.FunctionGetResponse(**known))

    async def FunctionBindParams(self, stream: Any) -> None:
        request = await self._receive(stream)
        bound = f"fu-{len(self.options) + 2}"
        self.options[bound] = request.function_options
        known = {"bound_function_id": bound, "handle_metadata": self.metadata}
        await stream.send_message(api_pb2.FunctionBindParamsResponse(**known))

    # -- calls -------------------------------------------------------------------------------------

    async def FunctionMap(self, stream: Any) -> None:
        request = await self._receive(stream)
        args, kwargs = cloudpickle.loads(request.pipelined_inputs[0].input.args)
        name = f"fc-{len(self.calls) + 1}"
        call = self.calls[name] = Call(request.function_id, args, kwargs)
        threading.Thread(target=self._run, args=(call,), daemon=True).start()
        item = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id="in-1", input_jwt="jwt")
        known = {"function_call_id": name, "pipelined_inputs": [item], "function_call_jwt": "jwt"}
        await stream.send_message(api_pb2.FunctionMapResponse(**known))

    async def FunctionGetOutputs(self, stream: Any) -> None:
        request = await self._receive(stream)
        call = self.calls.get(request.function_call_id)
        if call is None:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, "no such call")
        end = time.monotonic() + request.timeout
        while not call.done.is_set() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if not call.done.is_set():
            await stream.send_message(api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1))
            return
        if call.error:
            failure = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
            result = api_pb2.GenericResult(status=failure, exception=call.error)
        else:
            result = api_pb2.GenericResult(status=SUCCESS, data=cloudpickle.dumps(call.value))
        output = api_pb2.FunctionGetOutputsItem(
            idx=0, input_id="in-1", result=result, data_format=api_pb2.DATA_FORMAT_PICKLE
        )
        await stream.send_message(
            api_pb2.FunctionGetOutputsResponse(outputs=[output], idxs=[0], last_entry_id="1-0")
        )

    async def FunctionCallCancel(self, stream: Any) -> None:
        request = await self._answer(stream, empty_pb2.Empty())
        self.calls[request.function_call_id].cancelled = request.terminate_containers

    def _run(self, call: Call) -> None:
        try:
            call.value = self.work(*call.args, **call.kwargs)
        except Exception as error:
            call.error = f"{type(error).__name__}: {error}"
        call.done.set()

    async def _receive(self, stream: Any) -> Any:
        request = await stream.recv_message()
        self.asked.append(type(request).__name__.removesuffix("Request"))
        return request

    async def _answer(self, stream: Any, answer: Any) -> Any:
        request = await self._receive(stream)
        await stream.send_message(answer)
        return request


def described(function: api_pb2.Function) -> api_pb2.FunctionData:
    """A function's definition as the platform gives it back."""
    ranked = api_pb2.FunctionData.RankedFunction(rank=0, function=function)
    return api_pb2.FunctionData(ranked_functions=[ranked])


async def _unknown(self: ModalServer, stream: Any) -> None:
    """Any other request: said so, and seen by the test that made it."""
    request = await self._receive(stream)
    why = f"{type(request).__name__} is not answered here"
    raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, why)


_ENVIRONMENT = api_pb2.EnvironmentSettings(image_builder_version="2025.06", webhook_suffix="")
_MAIN = api_pb2.EnvironmentMetadata(name="main", settings=_ENVIRONMENT)
CANNED = {  # what is answered the same whatever is asked
    "ClientHello": api_pb2.ClientHelloResponse(),
    "EnvironmentGetOrCreate": api_pb2.EnvironmentGetOrCreateResponse(
        environment_id="en-1", metadata=_MAIN
    ),
    "AppCreate": api_pb2.AppCreateResponse(app_id="ap-1", app_page_url=PAGE),
    "AppGetOrCreate": api_pb2.AppGetOrCreateResponse(app_id="ap-1"),
    "AppGetByDeploymentName": api_pb2.AppGetByDeploymentNameResponse(),
    "AppGetLayout": api_pb2.AppGetLayoutResponse(app_layout=api_pb2.AppLayout()),
    "AppHeartbeat": empty_pb2.Empty(),
    "AppClientDisconnect": empty_pb2.Empty(),
    "AppGetLogs": api_pb2.TaskLogsBatch(app_done=True),
    "MountBatchedCheckExistence": api_pb2.MountBatchedCheckExistenceResponse(),  # none is missing
    "MountPutFile": api_pb2.MountPutFileResponse(exists=True),
    "MountGetOrCreate": api_pb2.MountGetOrCreateResponse(mount_id="mo-1"),
}


def _canned(answer: Any) -> Callable[[ModalServer, Any], Any]:
    return lambda server, stream: server._answer(stream, answer)


for _name in ModalServer.__abstractmethods__:
    setattr(ModalServer, _name, _canned(CANNED[_name]) if _name in CANNED else _unknown)
ModalServer.__abstractmethods__ = frozenset()  # type: ignore[misc]
