// Hands in without leaving the page, so that a refusal can be read beside the form.
for (const form of document.querySelectorAll("form[data-action]")) {
  const problem = form.querySelector(".problem");
  const button = form.querySelector("button");
  let key = null; // one key per attempt: a repeated click after a lost answer is no second submission
  form.addEventListener("change", () => { key = null; problem.hidden = true; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    key ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    button.disabled = true;
    problem.hidden = true;
    try {
      const answer = await fetch(form.dataset.action, {
        method: "POST", body: new FormData(form), headers: { "Idempotency-Key": key },
      });
      const body = await answer.json();
      if (answer.ok) location.assign(body.links.page);
      else throw new Error(body.detail);
    } catch (error) {
      problem.textContent = error instanceof TypeError ? "The server does not answer. Try again in a moment." : error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}
