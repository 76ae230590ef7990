//! Real product pictures, where they are beside the repository: everything loads, and every picture finds itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{fs, path::Path};

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
