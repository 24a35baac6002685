"""Stand the house up and show one job's whole line, from request to verified tally."""

import json
import os
import threading
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from config.embedded.house import founding_of, read_env, standing
from config.embedded.process import HouseProblem
from config.embedded.story import Client, tell
from config.embedded.supervisor import Stopping, is_running
from config.management.house_command import HouseCommand

PROMPT = "a red circle"


class Command(HouseCommand):
    help = "Stand the house up, have a picture made, check its evidence offline, and stay up until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--prompt", default=PROMPT, help=f"what the picture shows (default: {PROMPT})")
        parser.add_argument("--port", type=int, help="the web server's port (default: 8000, or a free one)")
        parser.add_argument("--once", action="store_true", help="end after the verdicts")
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")

    def act(
        self,
        data_dir: Path,
        *,
        prompt: str = PROMPT,
        port: int | None = None,
        once: bool = False,
        json: bool = False,
        **_: Any,
    ) -> None:
        if is_running(data_dir):
            self.say("a house runs here already: this is its client only, and stops nothing")
            self._leave_unless_good(self._tell(data_dir, prompt, engines_s=0.0, as_json=json))
            return
        told: list[dict[str, Any] | HouseProblem] = []
        with Stopping() as stopping, standing(data_dir, port=port, say=self.say) as house:

            def tell_it() -> None:
                # In a thread: this one must watch the house meanwhile, and children live as long as it does.
                try:
                    told.append(self._tell(data_dir, prompt, engines_s=house.seconds, as_json=json))
                except (HouseProblem, OSError) as problem:
                    told.append(HouseProblem(str(problem)))
                if once or isinstance(told[0], HouseProblem):
                    stopping.event.set()
                else:
                    self.say("the house stays up; Ctrl-C, or manage.py down in another shell, stops everything")

            teller = threading.Thread(target=tell_it, daemon=True)
            teller.start()
            house.supervisor.watch(stopping.gently())
            self.say("stopping")
        self.say("stopped")
        for outcome in told:
            if isinstance(outcome, HouseProblem):
                raise outcome
            self._leave_unless_good(outcome)

    def _tell(self, data_dir: Path, prompt: str, *, engines_s: float, as_json: bool) -> dict[str, Any]:
        """Tell the story and print where everything is."""
        env, founded = read_env(data_dir), founding_of(data_dir)
        client = Client(
            base_url=env["PUBLIC_URL"],
            api_key=founded["api_key"],
            keys_dir=data_dir / "keys",
            folder=data_dir / "demo",
            rpc_url=env["CHAIN_RPC_URL"],
        )
        story = tell(client, prompt, self.say)
        told = {
            "base_url": client.base_url,
            "api_key": founded["api_key"],
            "admin_url": f"{client.base_url}/admin/",
            "admin_user": founded["admin_user"],
            "admin_password": founded["admin_password"],
            "rpc_url": client.rpc_url,
            "chain_id": int(env["CHAIN_ID"]),
            "register_address": founded["register_address"],
            "token_address": founded["token_address"],
            "minter_address": founded["minter_address"],
            **story,
            "data_dir": str(data_dir),
        }
        setup_s = float(os.environ.get("TALLYSTICK_SETUP_SECONDS", "0"))
        told["seconds"] = {"setup": round(setup_s, 1), "engines": round(engines_s, 1), **story["seconds"]}
        self._tell_where(told)
        if as_json:
            self.stdout.write(json.dumps(told))
            self.stdout.flush()
        return told

    def _tell_where(self, told: dict[str, Any]) -> None:
        self.say("")
        self.say(f"  picture     {told['artifact_path']}")
        self.say(f"  tally       {told['tally_path']}")
        self.say(f"  trust file  {told['trust_path']}")
        self.say(f"  console     {told['admin_url']}  user {told['admin_user']}  {told['admin_password']}")
        self.say(f"  API key     {told['api_key']}")
        seconds = ", ".join(f"{name} {value} s" for name, value in told["seconds"].items())
        self.say(f"  {seconds}")
        self.say("")

    def _leave_unless_good(self, told: dict[str, Any]) -> None:
        unnoticed = [what for what, copy in told["tampered"].items() if copy["verdict"] != "broken"]
        if unnoticed or told["verify_exit"]:
            self.leave(1, "not every required claim holds" if told["verify_exit"] else "a changed byte went unnoticed")
