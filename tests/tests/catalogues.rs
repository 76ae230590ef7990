//! Real product pictures, where they are beside the repository: everything loads, and every picture finds itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tonic::transport::Channel;
use vitrine_proto::v1::{
    Equals, Filter, Photo, Range, SearchRequest, SearchResponse, Signal, Value as PbValue, filter::Node, range::Upper,
    recommendation_service_client::RecommendationServiceClient, signal::Source, value::Kind,
};
use vitrine_tests::{Server, load_well, shared};

type Client = RecommendationServiceClient<Channel>;

fn products(folder: &Path) -> Vec<Value> {
    let feed = fs::read_to_string(folder.join("products.jsonl")).unwrap();
    feed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn search(client: &mut Client, catalog: &str, source: Source, filter: Option<Node>) -> SearchResponse {
    let request = SearchRequest {
        catalog: catalog.to_owned(),
        signals: vec![Signal { source: Some(source), weight: None }],
        filter: filter.map(|node| Filter { node: Some(node) }),
        page_size: 200,
        ..SearchRequest::default()
    };
    client.search(request).await.unwrap().into_inner()
}

/// The share of products whose own picture finds them first. Products that share a picture share the first place.
async fn found_first(client: &mut Client, catalog: &str, folder: &Path, products: &[&Value]) -> f64 {
    let mut found = 0.0;
    for product in products {
        let content = fs::read(folder.join(product["image_link"].as_str().unwrap())).unwrap();
        let photo = Source::Photo(Photo { content: content.into(), region: None });
        let answer = search(client, catalog, photo, None).await;
        let best = answer.results[0].score;
        let first = answer.results.iter().take_while(|result| result.score >= best - 1e-4);
        let mut ids = first.map(|result| result.product.as_ref().unwrap().id.as_str());
        found += f64::from(u8::from(ids.any(|id| product["id"] == id)));
    }
    found / f64::from(u32::try_from(products.len()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_load_whole_and_every_picture_finds_itself() {
    let Some(data) = shared("data") else { return };
    let dir = tempfile::tempdir().unwrap();
    let shops = [("outdoor", 101), ("home", 63), ("department-store", 84), ("appliances", 87)];
    for (shop, count) in shops {
        let summary = load_well(&data.join(shop).join("products.jsonl"), dir.path(), &["--catalog", shop]);
        assert!(summary.contains(&format!("products  {count}\n")) && summary.contains("nothing failed"), "{summary}");
    }
    let server = Server::start(dir.path(), &[]).await;
    let mut client = Client::new(server.channel().await).max_encoding_message_size(32 << 20);
    for (shop, _) in shops {
        let folder = data.join(shop);
        let products = products(&folder);
        let share = found_first(&mut client, shop, &folder, &products.iter().collect::<Vec<_>>()).await;
        eprintln!("{shop}: {:.1} % of pictures find their product first", share * 100.0);
        assert!(share >= 0.99, "{shop}: {share}");
    }

    // A filter leaves exactly the products that meet it.
    let outdoor = products(&data.join("outdoor"));
    let brand = "Daybird";
    let expected = outdoor.iter().filter(|product| product["brand"] == brand).count();
    let value = Some(PbValue { kind: Some(Kind::StringValue(brand.to_owned())) });
    let equals = Node::Equals(Equals { attribute: "brand".to_owned(), value });
    let answer = search(&mut client, "outdoor", Source::Text("boots".to_owned()), Some(equals)).await;
    assert_eq!(answer.results.len(), expected);
    assert!(answer.results.iter().all(|result| result.product.as_ref().unwrap().brand == brand));

    let price =
        |product: &Value| -> f64 { product["price"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap() };
    let expected = outdoor.iter().filter(|product| price(product) < 50.0).count();
    let upper = Some(Upper::Lt(PbValue { kind: Some(Kind::IntValue(50)) }));
    let cheap = Node::Range(Range { attribute: "price".to_owned(), lower: None, upper });
    let answer = search(&mut client, "outdoor", Source::Text("boots".to_owned()), Some(cheap)).await;
    assert_eq!(answer.results.len(), expected);
}

/// What is asked for by words: they, and what a right product has as the attribute.
type Asked = (&'static str, Vec<(String, String)>);

/// Of a shop's products: every fifth identifier, all brands, and what a title begins with, if no other does.
fn asked(products: &[Value]) -> [Asked; 3] {
    let text = |product: &Value, name: &str| product[name].as_str().unwrap_or_default().to_owned();
    let itself = |text: String| (text.clone(), text);
    let ids = products.iter().step_by(5).map(|product| itself(text(product, "id")));
    let brands: BTreeSet<_> = products.iter().map(|product| text(product, "brand")).collect();
    let mut titles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for title in products.iter().map(|product| text(product, "title")) {
        titles.entry(title.split(' ').next().unwrap().to_owned()).or_default().insert(title);
    }
    let names = titles.into_iter().filter(|(_, titles)| titles.len() == 1);
    let names = names.filter_map(|(name, mut titles)| Some((name, titles.pop_first()?)));
    [
        ("id", ids.collect()),
        ("brand", brands.into_iter().filter(|brand| !brand.is_empty()).map(itself).collect()),
        ("title", names.collect()),
    ]
}

/// How well words find what they are for: the mean of 1 / n over queries, of which the n-th product is the first right one;
/// 1 if nothing is asked.
async fn reciprocal_rank(client: &mut Client, catalog: &str, (attribute, queries): &Asked) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (words, expected) in queries {
        let answer = search(client, catalog, Source::Text(words.clone()), None).await;
        let mut found = answer.results.iter().map(|result| result.product.as_ref().unwrap());
        let rank = found.position(|product| {
            *expected
                == match *attribute {
                    "id" => product.id.as_str(),
                    "brand" => &product.brand,
                    _ => &product.title,
                }
        });
        sum += rank.map_or(0.0, |rank| 1.0 / f64::from(u32::try_from(rank + 1).unwrap()));
        count += 1.0;
    }
    if queries.is_empty() { 1.0 } else { sum / count }
}

/// Identifiers, brands and names mean little to a model: the words themselves find them.
#[tokio::test(flavor = "multi_thread")]
async fn identifiers_brands_and_names_are_found_by_their_words() {
    let Some(data) = shared("data") else { return };
    let dir = tempfile::tempdir().unwrap();
    let shops = ["outdoor", "home", "appliances"];
    for shop in shops {
        load_well(&data.join(shop).join("products.jsonl"), dir.path(), &["--catalog", shop]);
    }
    let meaning = Server::start(dir.path(), &["--keyword-share", "0"]).await;
    let mut by_meaning = Client::new(meaning.channel().await).max_encoding_message_size(32 << 20);
    let mut ranks = Vec::new();
    for shop in shops {
        for asked in asked(&products(&data.join(shop))) {
            let rank = reciprocal_rank(&mut by_meaning, shop, &asked).await;
            ranks.push((shop, asked, rank));
        }
    }
    // One process has a directory's generation open at a time.
    drop((by_meaning, meaning));
    let server = Server::start(dir.path(), &[]).await;
    let mut client = Client::new(server.channel().await).max_encoding_message_size(32 << 20);
    for (shop, asked, without) in ranks {
        let rank = reciprocal_rank(&mut client, shop, &asked).await;
        let attribute = asked.0;
        eprintln!("{shop}, {attribute}: {without:.3} by what words mean, {rank:.3} by the words, too");
        assert!(rank >= 0.9 && (rank > without || asked.1.is_empty()), "{shop}, {attribute}: {rank}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_thousand_garments_load_whole_and_find_themselves() {
    let Some(data) = shared("data/clothing") else { return };
    let dir = tempfile::tempdir().unwrap();
    let summary = load_well(&data.join("products.jsonl"), dir.path(), &[]);
    assert!(summary.contains("products  4369\n") && summary.contains("nothing failed"), "{summary}");
    let server = Server::start(dir.path(), &[]).await;
    let mut client = Client::new(server.channel().await).max_encoding_message_size(32 << 20);
    let products = products(&data);
    let sample: Vec<_> = products.iter().step_by(20).collect();
    let share = found_first(&mut client, "default", &data, &sample).await;
    eprintln!("{} garments: {:.1} % find themselves first", sample.len(), share * 100.0);
    assert!(share >= 0.99, "{share}");
}
