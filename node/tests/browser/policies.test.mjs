// One setting for the company, another for a till: made in the browser, shown with for whom it was made, and what waits at
// a till with the hub away is told with its value when the hub is back.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { Company, browser, logIn, sound, PATIENCE } from "./company.mjs";

let company, hub, till, chrome, boss;

before(async () => {
  company = new Company();
  hub = await company.hub();
  till = await company.till("high-street", "till-01");
  await company.till("high-street", "till-02");
  await company.till("station", "till-03");
  chrome = await browser();
  boss = await chrome.open();
  await logIn(boss, hub, company.admin);
});
after(async () => {
  await chrome?.close();
  await company?.end();
});

async function change(setting, value, till) {
  if (till) await boss.getByLabel("For", { exact: true }).selectOption(till);
  await boss.getByLabel("Setting").selectOption(setting);
  await boss.getByLabel("New value").fill(value);
  await boss.getByRole("button", { name: "Change" }).click();
}
const row = (text) => boss.locator("tbody tr", { hasText: text }).first();
const says = (text) => boss.getByText(text).first().waitFor({ timeout: PATIENCE });

test("what is set for the company is in every store, and a till's own counts before it", async () => {
  await boss.goto(`${hub.url}/fleet`);
  await boss.getByRole("link", { name: "the whole company" }).click();
  await change("refund_limit_minor", "4000");
  await says("is recorded and on its way to every store");
  assert.match(await row("Refund without approval").innerText(), /£40\.00[\s\S]*set for the company[\s\S]*£100\.00/);
  await sound(boss, "policy-company");

  await boss.getByRole("link", { name: "high-street" }).click();
  await change("refund_limit_minor", "1000", "till-01");
  await says("is recorded and on its way");
  assert.match(await row("Refund without approval").innerText(), /£40\.00[\s\S]*set for the company/);
  assert.match(await boss.locator("#own").innerText(), /till-01: Refund without approval at most = £10\.00/);
  await change("receipt_scope", "store", "till-01");
  await says("Not changed");
  await says("the same for a whole store");
  await sound(boss, "policy-store");

  await boss.goto(`${hub.url}/fleet/policies/station`);
  assert.match(await row("Refund without approval").innerText(), /£40\.00[\s\S]*set for the company/);
  assert.equal(await boss.locator("#own").count(), 0);
  assert.deepEqual(chrome.faults, []);
});

test("what tills hold back is told on the first page with its value and age", async () => {
  await boss.goto(`${hub.url}/fleet/policies/high-street`);
  await change("sync_interval", "1h");
  await says("is recorded and on its way");
  const page = await chrome.open();
  for (let version = ""; version !== 3; ) {
    version = (await (await page.request.get(`${till.url}/v1/status`)).json()).policy_version;
  }
  const sale = { kind: "sale", receipt: "R-1", currency: "GBP", lines: [{ sku: "A", quantity: "1", amount_minor: 1250, tax_minor: 0 }], tenders: [{ type: "cash", amount_minor: 1250 }] };
  assert.equal((await page.request.post(`${till.url}/v1/transactions`, { data: sale })).status(), 201);
  await boss.goto(hub.url);
  await boss.locator("#today", { hasText: "Worth £12.50" }).waitFor();
  assert.match(await boss.locator("#today").innerText(), /The oldest is from .* ago/);
  await sound(boss, "today-waiting");
  assert.deepEqual(chrome.faults, []);
});
