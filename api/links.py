"""Where things are."""

API = "/api/v1"
LOGIN = "/login"


def submission_links(submission_id: str) -> dict[str, str]:
    own = f"{API}/submissions/{submission_id}"
    return {
        "self": own,
        "cancel": f"{own}/cancel",
        "events": f"{own}/events",
        "hand_in": f"{own}/hand-in",
        "hints": f"{own}/hints",
        "page": f"/submissions/{submission_id}",
        "hints_page": f"/submissions/{submission_id}/hints",
        "report": f"{own}/report",
        "report_html": f"{own}/report.html",
    }


def image_link(submission_id: str, name: str) -> str:
    return f"{API}/submissions/{submission_id}/images/{name}"


def assignment_links(assignment: str) -> dict[str, str]:
    own = f"{API}/assignments/{assignment}"
    return {
        "self": own,
        "submissions": f"{own}/submissions",
        "starter_py": f"{own}/starter.py",
        "starter_ipynb": f"{own}/starter.ipynb",
    }
