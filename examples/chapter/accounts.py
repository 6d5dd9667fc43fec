"""The chapter's program of accounts and tokens, with the chapter's own classes.

    python examples/chapter/accounts.py

The chapter writes its secret into the program, where everybody can read it. Here each run makes its own.
"""

from __future__ import annotations

import secrets

from consona.chapter import AuthenticationError, AuthenticationSystem, JWTManager, narrate, show, think


def register(system: AuthenticationSystem) -> None:
    for name, password, roles in (
        ("alice", "AlicePass123!", ["user", "admin"]),
        ("bob", "BobSecure456#", ["user"]),
        ("charlie", "CharlieStrong789$", ["user", "moderator"]),
    ):
        user = system.register_user(name, f"{name}@example.org", password, roles)
        show("Registered", user["username"], "with the roles", *user["roles"])


def guess(system: AuthenticationSystem) -> None:
    """Wrong passwords: one is refused, and after five nobody may try for a while."""
    try:
        system.authenticate_user("alice", "wrong_password")
    except AuthenticationError as error:
        show("A wrong password:", error.message)
    for attempt in range(1, 7):
        try:
            system.authenticate_user("charlie", "wrong_password")
        except AuthenticationError as error:
            show("Failed attempt", attempt, "-", error.message)
    show("Is charlie locked out?", system.is_user_locked_out("charlie"))


def main() -> None:
    narrate()
    manager = JWTManager(secrets.token_urlsafe(32), "HS256", expiration_hours=24)
    system = AuthenticationSystem(manager)
    register(system)

    alice = system.authenticate_user("alice", "AlicePass123!")
    bob = system.authenticate_user("bob", "BobSecure456#")
    for name, session in (("alice", alice), ("bob", bob)):
        verdict = manager.verify_token(session["token"])
        show("The token of", name, "counts:", verdict["valid"], "- roles:", *verdict["roles"])
    guess(system)

    show(system.change_password("bob", "BobSecure456#", "NewBobPass789!")["message"])
    show("Bob's old token counts:", manager.verify_token(bob["token"])["valid"])
    bob = system.authenticate_user("bob", "NewBobPass789!")
    think("A refresh gives a new token, and takes the old one back.")
    renewed = manager.refresh_token(alice["token"])
    show("Alice's new token counts:", manager.verify_token(renewed["token"])["valid"])
    show(system.logout_user(bob["token"])["message"])
    show("Bob's token after that:", manager.verify_token(bob["token"])["error"])
    show("Something that is no token:", manager.verify_token("invalid.token.format")["valid"])

    info = system.get_user_info("alice")
    if info is not None:
        show("Alice:", info["email"], "active" if info["active"] else "disabled")
    for name, count in manager.get_token_stats().items():
        show(" ", name, count)
    show("Active tokens:", len(manager.get_active_tokens()))
    system.close()


if __name__ == "__main__":
    main()
