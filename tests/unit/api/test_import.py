import subprocess
import sys


def test_the_api_starts_without_torch_and_the_judge():
    code = "import sys, api.main; print({'torch', 'pytest', 'matplotlib', 'numpy'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
