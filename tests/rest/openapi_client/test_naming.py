"""Names: whole words, short inside of their group, in the order that a linter wants, and none that hides another."""

from __future__ import annotations

import pytest

from consona.rest.openapi_client import generate
from consona.rest.openapi_client.naming import class_name, name_in_group, snake_name, sorted_as_exports
from written import load


def test_a_long_name_ends_with_a_whole_word():
    text = "actions/get-github-actions-default-workflow-permissions-for-an-enterprise"
    assert snake_name(text) == "actions_get_github_actions_default_workflow_permissions_for"
    assert class_name(text) == "ActionsGetGithubActionsDefaultWorkflow"
    assert class_name("GitHub's official OpenAPI spec + extensions", limit=32) == "GitHubsOfficialOpenAPISpec"
    assert len(class_name("x" * 500)) == 40
    assert len(snake_name("x" * 500)) == 60


@pytest.mark.parametrize(
    ("name", "group", "short"),
    [
        ("issues_list_for_repo", "issues", "list_for_repo"),
        ("issues_list", "issues", "issues_list"),  # `list` would hide the type in the whole class
        ("issues_import", "issues", "issues_import"),
        ("issues", "issues", "issues"),
        ("list_issues", "issues", "list_issues"),
        ("code_scanning_get_alert", "code-scanning", "get_alert"),
    ],
)
def test_a_method_does_not_repeat_the_name_of_its_group(name, group, short):
    assert name_in_group(name, group) == short


def test_exports_are_in_the_order_of_the_linter():
    assert sorted_as_exports(["b", "Option10", "Option9", "URL", "Alpha"]) == [
        "URL",
        "Alpha",
        "Option9",
        "Option10",
        "b",
    ]


def test_the_methods_of_a_group_are_called_by_their_short_names():
    paths = {
        f"/{tag}/{n}": {
            "get": {"tags": [tag], "operationId": f"{tag}/show-{n}", "responses": {"204": {"description": ""}}}
        }
        for tag in ("pets", "shops")
        for n in range(6)
    }
    made = generate({"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "paths": paths})
    client = load(made.source).ShopClient("https://shop.example")
    assert callable(client.pets.show_0)
    assert callable(client.shops.show_5)
